/* Preloaded, it has a process's wall clock off by CLOCK_SKEW_MS milliseconds. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (syscall(SYS_clock_gettime, clock, at) != 0) return -1;
  const char *text = getenv("CLOCK_SKEW_MS");
  if (text == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return 0;
  long long skew_ms = atoll(text), part_ns = at->tv_nsec + skew_ms % 1000 * 1000000;
  at->tv_sec += skew_ms / 1000;
  if (part_ns < 0) { at->tv_sec -= 1; part_ns += 1000000000; }
  if (part_ns >= 1000000000) { at->tv_sec += 1; part_ns -= 1000000000; }
  at->tv_nsec = part_ns;
  return 0;
}
