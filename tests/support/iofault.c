/* A layer between a process and libc: it kills the process, or makes a call fail, at the Nth step.

It is preloaded into the fork server of the tests, and does nothing until `iofault_arm` is called.

A step is a call that changes a file below one directory (open with O_CREAT, write, fsync,
truncate, rename, unlink, mkdir, chmod). For `count` and `kill`, a write to stdout and a send or
receive on an Internet socket are steps, too. If the directory is `-`, only writes to stdout are
steps. Steps are counted from 1, before they happen:

  count  nothing is changed; the log gets one line per step
  kill   the process gets SIGKILL before step N
  fail   from step N on, `count` steps fail with `error`
  short  like fail, but a write at step N first writes half of its bytes
  unlocked  nothing is counted, and `flock` does nothing, as on some network file systems, or fails
            with `error` if that is not 0
  threadless  nothing is counted, and no thread can be started
  shifted  nothing is counted, and the time of day is N seconds later
  slow   from step N on, each sync takes `error` milliseconds, as on a slow disk
*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, FAIL, SHORT, SLOW, UNLOCKED, SHIFTED, THREADLESS };

static int mode = OFF, error_number, log_descriptor = -1;
static long first, last;
static char folder[4096];
static size_t folder_length;
static atomic_long step;

void iofault_arm(const char *wanted, long at, long count, int error, const char *below, int log) {
    strncpy(folder, below, sizeof folder - 1);
    folder_length = strlen(folder);
    first = at;
    last = at + count - 1;
    error_number = error;
    log_descriptor = log;
    mode = !strcmp(wanted, "kill") ? KILL : !strcmp(wanted, "fail") ? FAIL
         : !strcmp(wanted, "short") ? SHORT : !strcmp(wanted, "slow") ? SLOW
         : !strcmp(wanted, "unlocked") ? UNLOCKED : !strcmp(wanted, "shifted") ? SHIFTED
         : !strcmp(wanted, "threadless") ? THREADLESS : COUNT;
}

static void note(const char *name, const char *what) {
    char line[4300];
    if (log_descriptor < 0) return;
    int length = snprintf(line, sizeof line, "%s %s\n", name, what);
    syscall(SYS_write, log_descriptor, line, (size_t)length);
}

/* Count a step. Returns 0 if the call goes through, 1 if it fails, 2 if it writes half. */
static int taken(const char *name, const char *what) {
    long number = atomic_fetch_add(&step, 1) + 1;
    note(name, what);
    if (mode == KILL && number == first) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (mode == SLOW && number >= first && !strcmp(name, "sync")) usleep(1000 * error_number);
    if ((mode != FAIL && mode != SHORT) || number < first || number > last) return 0;
    if (mode == SHORT && number == first) return 2;
    errno = error_number;
    return 1;
}

static int is_below(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length);
}

static int on_path(const char *name, const char *path) {
    return mode != OFF && is_below(path) ? taken(name, path) : 0;
}

static int on_descriptor(const char *name, int descriptor) {
    char link[64], path[4096];
    if (mode == OFF) return 0;
    if (descriptor == 1 && (mode <= KILL || !strcmp(folder, "-"))) return taken(name, "stdout");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path) ? taken(name, path) : 0;
}

static void on_socket(const char *name, int descriptor) {
    int domain = 0;
    socklen_t size = sizeof domain;
    if (mode != COUNT && mode != KILL) return;
    if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0
        && (domain == AF_INET || domain == AF_INET6))
        taken(name, "socket");
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int d, const void *data, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int fault = on_descriptor("write", d);
    return fault == 1 ? -1 : real(d, data, fault && n > 1 ? n / 2 : n);
}

#define PWRITE(symbol) \
    ssize_t symbol(int d, const void *data, size_t n, off_t at) { \
        REAL(ssize_t, #symbol, int, const void *, size_t, off_t); \
        int fault = on_descriptor("write", d); \
        return fault == 1 ? -1 : real(d, data, fault && n > 1 ? n / 2 : n, at); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define ON_DESCRIPTOR(symbol, step_name) \
    int symbol(int d) { \
        REAL(int, #symbol, int); \
        return on_descriptor(step_name, d) ? (errno = error_number, -1) : real(d); \
    }
ON_DESCRIPTOR(fsync, "sync")
ON_DESCRIPTOR(fdatasync, "sync")

#define TRUNCATE(symbol) \
    int symbol(int d, off_t size) { \
        REAL(int, #symbol, int, off_t); \
        return on_descriptor("truncate", d) ? (errno = error_number, -1) : real(d, size); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fchmod(int d, mode_t bits) {
    REAL(int, "fchmod", int, mode_t);
    return on_descriptor("chmod", d) ? (errno = error_number, -1) : real(d, bits);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return on_path("rename", to) ? (errno = error_number, -1) : real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return on_path("unlink", path) ? (errno = error_number, -1) : real(path);
}

int mkdir(const char *path, mode_t bits) {
    REAL(int, "mkdir", const char *, mode_t);
    return on_path("mkdir", path) ? (errno = error_number, -1) : real(path, bits);
}

#define OPEN(symbol) \
    int symbol(const char *path, int flags, ...) { \
        REAL(int, #symbol, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        int bits = flags & O_CREAT ? va_arg(rest, int) : 0; \
        va_end(rest); \
        if (flags & O_CREAT && on_path("create", path)) return errno = error_number, -1; \
        return real(path, flags, bits); \
    }
OPEN(open)
OPEN(open64)

int flock(int d, int operation) {
    REAL(int, "flock", int, int);
    if (mode != UNLOCKED) return real(d, operation);
    return error_number ? (errno = error_number, -1) : 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*start)(void *), void *argument) {
    REAL(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return mode == THREADLESS ? EAGAIN : real(thread, attributes, start, argument);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int failed = real(clock, now);
    if (!failed && mode == SHIFTED && clock == CLOCK_REALTIME) now->tv_sec += first;
    return failed;
}

ssize_t send(int d, const void *data, size_t n, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    on_socket("send", d);
    return real(d, data, n, flags);
}

ssize_t recv(int d, void *data, size_t n, int flags) {
    REAL(ssize_t, "recv", int, void *, size_t, int);
    on_socket("receive", d);
    return real(d, data, n, flags);
}
