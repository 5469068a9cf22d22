/* Loaded before the C library (LD_PRELOAD): the time of day is off by as many seconds as the file named by WRONG_CLOCK
   says, a number of 8 bytes. Time that only runs on (monotonic) is left alone, as a correction by NTP leaves it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;
static int (*right)(clockid_t, struct timespec *);

__attribute__((constructor)) static void find(void)
{
    right = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("WRONG_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0)
        return;
    void *content = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (content != MAP_FAILED)
        ahead = content;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!right)
        find();
    int failed = right(clock, now);
    if (!failed && ahead && clock == CLOCK_REALTIME)
        now->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *seconds)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (seconds)
        *seconds = precise.tv_sec;
    return precise.tv_sec;
}
