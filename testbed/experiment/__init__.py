"""Scenarios carried out: trials in order, nodes watched, traffic driven, results stored."""
