/* Loaded before the C library (LD_PRELOAD): from the n-th write below a folder on, the disk is full. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long calls, fails_from; /* 0: count and never fail */

/* Below which folder, and from which write on; forgets what was counted. */
void full_arm(const char *below, long nth) {
  snprintf(folder, sizeof folder, "%s", below);
  calls = 0;
  fails_from = nth;
}

long full_calls(void) { return calls; }

static int is_full(const char *path) {
  if (!folder[0] || strncmp(path, folder, strlen(folder))) return 0;
  calls++;
  if (!fails_from || calls < fails_from) return 0;
  errno = ENOSPC;
  return 1;
}

static int is_full_file(int file) {
  char link[64], path[PATH_MAX];
  if (!folder[0]) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return is_full(path);
}

#define WRITER(type, name, parameters, arguments)                        \
  type name parameters {                                                 \
    static type(*real) parameters;                                       \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);       \
    return is_full_file(file) ? -1 : real arguments;                     \
  }

WRITER(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
WRITER(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
WRITER(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
WRITER(ssize_t, writev, (int file, const struct iovec *data, int count), (file, data, count))
WRITER(int, fsync, (int file), (file))

/* A new file needs space as well. */
static int opened(int at, const char *path, int flags, mode_t mode) {
  static int (*real)(int, const char *, int, ...);
  char full[PATH_MAX];
  if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
  if (flags & O_CREAT && at == AT_FDCWD) {
    if (path[0] == '/' || !getcwd(full, sizeof full))
      snprintf(full, sizeof full, "%s", path);
    else
      strncat(strncat(full, "/", sizeof full - strlen(full) - 1), path, sizeof full - strlen(full) - 1);
    if (is_full(full)) return -1;
  }
  return real(at, path, flags, mode);
}

#define MODE(flags)                        \
  mode_t mode = 0;                         \
  if (flags & (O_CREAT | O_TMPFILE)) {     \
    va_list more;                          \
    va_start(more, flags);                 \
    mode = va_arg(more, mode_t);           \
    va_end(more);                          \
  }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
