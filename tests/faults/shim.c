/* Preloaded into a process of a test (LD_PRELOAD): kills it at a chosen system call, and moves its wall clock.
 *
 * What to do stands in a file that is mapped into memory (FAULT_CONTROL names it), so that the test can change it while
 * the process runs. The layout is that of `struct control`, and that of tests/faults/shim.py.
 *
 * A call counts when its kind is one of `kinds` and the path that it writes to contains `path`. When `countdown` gets to
 * zero the process kills itself: before the call, after it, or, of a write, after half of its bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, RENAME = 2, MKDIR = 4, UNLINK = 8, SYNC = 16, LINK = 32 };
enum { BEFORE = 0, AFTER = 1, HALFWAY = 2 };

struct control {
    _Atomic int64_t clock_offset_ns;
    _Atomic int64_t countdown; /* 0: not armed */
    _Atomic int64_t kinds;
    _Atomic int64_t moment;
    _Atomic int64_t seen; /* calls that counted since it was armed */
    char path[4056];
};

static struct control *control;

__attribute__((constructor)) static void attach(void) {
    const char *name = getenv("FAULT_CONTROL");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) control = memory;
}

/* Tell whether this call is the one at which the process is to be killed. */
static int chosen(int kind, const char *path) {
    if (!control || atomic_load(&control->countdown) <= 0) return 0;
    if (!(atomic_load(&control->kinds) & kind) || !strstr(path, control->path)) return 0;
    atomic_fetch_add(&control->seen, 1);
    return atomic_fetch_sub(&control->countdown, 1) == 1;
}

static int chosen_file(int kind, int file) {
    if (!control || atomic_load(&control->countdown) <= 0 || !(atomic_load(&control->kinds) & kind)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return chosen(kind, path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* The call with the kill before or after it; `half` is what to do of it where the kill is to come in the middle. */
#define STRUCK(struck, call, half)                                  \
    do {                                                            \
        if (!(struck)) return (call);                               \
        int64_t moment = atomic_load(&control->moment);             \
        if (moment == AFTER) (void)!(call);                         \
        if (moment == HALFWAY) { half; }                            \
        die();                                                      \
    } while (0);                                                    \
    return -1

ssize_t write(int file, const void *data, size_t size) {
    static __typeof__(&write) next;
    if (!next) next = REAL(write);
    STRUCK(chosen_file(WRITE, file), next(file, data, size), (void)!next(file, data, size / 2));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    static __typeof__(&pwrite) next;
    if (!next) next = REAL(pwrite);
    STRUCK(chosen_file(WRITE, file), next(file, data, size, at), (void)!next(file, data, size / 2, at));
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    static __typeof__(&pwrite64) next;
    if (!next) next = REAL(pwrite64);
    STRUCK(chosen_file(WRITE, file), next(file, data, size, at), (void)!next(file, data, size / 2, at));
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static __typeof__(&writev) next;
    if (!next) next = REAL(writev);
    STRUCK(chosen_file(WRITE, file), next(file, parts, count), (void)!next(file, parts, count > 1 ? count / 2 : 1));
}

int fsync(int file) {
    static __typeof__(&fsync) next;
    if (!next) next = REAL(fsync);
    STRUCK(chosen_file(SYNC, file), next(file), );
}

int fdatasync(int file) {
    static __typeof__(&fdatasync) next;
    if (!next) next = REAL(fdatasync);
    STRUCK(chosen_file(SYNC, file), next(file), );
}

int rename(const char *from, const char *to) {
    static __typeof__(&rename) next;
    if (!next) next = REAL(rename);
    STRUCK(chosen(RENAME, from), next(from, to), );
}

int mkdir(const char *path, mode_t mode) {
    static __typeof__(&mkdir) next;
    if (!next) next = REAL(mkdir);
    STRUCK(chosen(MKDIR, path), next(path, mode), );
}

int unlink(const char *path) {
    static __typeof__(&unlink) next;
    if (!next) next = REAL(unlink);
    STRUCK(chosen(UNLINK, path), next(path), );
}

int link(const char *from, const char *to) {
    static __typeof__(&link) next;
    if (!next) next = REAL(link);
    STRUCK(chosen(LINK, to), next(from, to), );
}

/* ClickHouse calls renameat2 by its number. */
long syscall(long number, ...) {
    static long (*next)(long, ...);
    if (!next) next = (long (*)(long, ...))real("syscall");
    va_list given;
    va_start(given, number);
    long a = va_arg(given, long), b = va_arg(given, long), c = va_arg(given, long);
    long d = va_arg(given, long), e = va_arg(given, long), f = va_arg(given, long);
    va_end(given);
    int struck = number == SYS_renameat2 && chosen(RENAME, (const char *)b);
    STRUCK(struck, next(number, a, b, c, d, e, f), );
}

/* The wall clock; what measures time that passes is left alone. */
static void move(struct timespec *now) {
    if (!control) return;
    int64_t offset = atomic_load(&control->clock_offset_ns);
    int64_t nanos = now->tv_nsec + offset % 1000000000;
    now->tv_sec += offset / 1000000000 + (nanos >= 1000000000) - (nanos < 0);
    now->tv_nsec = (nanos + 1000000000) % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) next;
    if (!next) next = REAL(clock_gettime);
    int result = next(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) move(now);
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec moment;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &moment) != 0) return -1;
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (into) *into = moment.tv_sec;
    return moment.tv_sec;
}
