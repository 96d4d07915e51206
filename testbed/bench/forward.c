/*
 * The floor: a forwarder of frames that does nothing but the system calls.
 *
 *     forward IN OUT BATCH STRIP MATCH PUSH COUNTS
 *
 * IN and OUT are open descriptors, s5 for a packet socket and t5 for a TAP. A frame from IN loses
 * its first STRIP bytes, gets the bytes of PUSH (hexadecimal, or - for none) in front and goes to
 * OUT. One from a socket is left alone unless its bytes from the 12th on are those of MATCH. Up to
 * BATCH frames are taken with one recvmmsg and sent with one sendmmsg; a TAP is no socket, so that
 * it is read and written frame by frame. COUNTS is a descriptor of memory that holds `struct
 * counts`, for whoever started this to read at any time.
 *
 * It must not know what the frames mean. It runs until it is killed, and ends with its parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 256
#define HEADROOM 64
#define FRAME 2048
#define MATCH_AT 12

struct counts {
	uint64_t receive_calls, send_calls, wait_calls, received, sent, refused;
};

struct end {
	int fd, is_tap;
};

static unsigned char rows[MOST][HEADROOM + FRAME];
static struct iovec in_iov[MOST], out_iov[MOST];
static struct mmsghdr in_msgs[MOST], out_msgs[MOST];
static volatile struct counts *counts;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct end parse_end(const char *text)
{
	struct end end = { .fd = atoi(text + 1), .is_tap = text[0] == 't' };

	if (text[0] != 't' && text[0] != 's') {
		fprintf(stderr, "%s: neither a socket (s5) nor a TAP (t5)\n", text);
		exit(2);
	}
	return end;
}

static int parse_bytes(const char *text, unsigned char *bytes, int room)
{
	int n = 0;

	for (unsigned byte; *text != '-' && n < room && sscanf(text, "%2x", &byte) == 1; text += 2)
		bytes[n++] = byte;
	return n;
}

/* Frames that one call brought; waits for the first. Their lengths are in in_msgs. */
static int receive(struct end in, int batch)
{
	if (!in.is_tap) {
		int n;

		counts->receive_calls++;
		n = recvmmsg(in.fd, in_msgs, batch, MSG_WAITFORONE, NULL);
		if (n < 0 && errno != EINTR && errno != ENETDOWN)
			fail("recvmmsg");
		return n < 0 ? 0 : n;
	}
	for (int n = 0;;) {
		ssize_t size = -1;

		if (n < batch) {
			counts->receive_calls++;
			size = read(in.fd, in_iov[n].iov_base, in_iov[n].iov_len);
			if (size < 0 && errno != EAGAIN && errno != EINTR)
				fail("read");
		}
		if (size >= 0) {
			in_msgs[n++].msg_len = size;
		} else if (n) {
			return n;
		} else {
			struct pollfd wanted = { .fd = in.fd, .events = POLLIN };

			counts->wait_calls++;
			poll(&wanted, 1, -1);
		}
	}
}

/* Sends out_iov[0 … n - 1]; what the kernel refuses is counted and keeps no other from going. */
static void send_all(struct end out, int n)
{
	for (int done = 0; done < n;) {
		int sent;

		counts->send_calls++;
		if (out.is_tap)
			sent = write(out.fd, out_iov[done].iov_base, out_iov[done].iov_len) < 0 ? -1 : 1;
		else
			sent = sendmmsg(out.fd, out_msgs + done, n - done, 0);
		if (sent > 0) {
			counts->sent += sent;
			done += sent;
		} else {
			counts->refused++;
			done++;
		}
	}
}

int main(int argc, char **argv)
{
	unsigned char match[4], push[HEADROOM];
	struct end in, out;
	int batch, strip, matched, pushed;

	if (argc != 8) {
		fprintf(stderr, "usage: forward IN OUT BATCH STRIP MATCH PUSH COUNTS\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	in = parse_end(argv[1]);
	out = parse_end(argv[2]);
	batch = atoi(argv[3]);
	strip = atoi(argv[4]);
	matched = parse_bytes(argv[5], match, sizeof(match));
	pushed = parse_bytes(argv[6], push, sizeof(push));
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[7]), 0);
	if (counts == MAP_FAILED)
		fail("mmap");
	if (batch < 1 || batch > MOST || strip < 0) {
		fprintf(stderr, "a batch has 1 to %d frames\n", MOST);
		return 2;
	}
	for (int row = 0; row < batch; row++) {
		in_iov[row] = (struct iovec){ rows[row] + HEADROOM, FRAME };
		in_msgs[row].msg_hdr = (struct msghdr){ .msg_iov = in_iov + row, .msg_iovlen = 1 };
		out_msgs[row].msg_hdr = (struct msghdr){ .msg_iov = out_iov + row, .msg_iovlen = 1 };
	}
	for (;;) {
		int n = receive(in, batch), kept = 0;

		for (int row = 0; row < n; row++) {
			unsigned char *frame = rows[row] + HEADROOM;
			int size = in_msgs[row].msg_len;

			if (size < strip || (!in.is_tap && (size < MATCH_AT + matched ||
			    memcmp(frame + MATCH_AT, match, matched))))
				continue;
			memcpy(frame + strip - pushed, push, pushed);
			out_iov[kept++] = (struct iovec){ frame + strip - pushed, size - strip + pushed };
		}
		counts->received += n;
		send_all(out, kept);
	}
}
