"""Plots of a result: what is plotted, as values, and how that is drawn.

`charts` gives the values; `testbed.report.charts.drawing` alone knows the library that draws.
"""

from testbed.report.charts.model import Axis, BarChart, Bars, Chart, LineChart, Series
from testbed.report.charts.selection import charts

__all__ = ["Axis", "BarChart", "Bars", "Chart", "LineChart", "Series", "charts"]
