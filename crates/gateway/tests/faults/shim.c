/*
 * Makes disk, sync and clock misbehave on demand, for one process.
 *
 * Loaded with LD_PRELOAD. FAULT_SHIM_FOLDER names the data folder whose files are concerned,
 * FAULT_SHIM_CONTROL a file of 64-bit numbers (see `enum knob`) that whoever tests writes and
 * that is mapped here, so that a fault begins and ends while the process runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum knob {
  WRITE_ERRNO,   /* what writes and truncations fail with; 0: they work */
  WRITE_FILES,   /* which files that concerns: a sum of `enum kind` */
  SYNC_ERRNO,    /* what syncs fail with */
  SYNC_LEFT,     /* so many syncs fail; -1: all */
  SYNC_FILES,    /* which files that concerns */
  SYNC_LOSES,    /* 1: a failed sync loses what was written since the last good one */
  SYNC_DELAY_MS, /* a sync takes so much longer */
  OPEN_ERRNO,    /* what opening for writing, making and renaming fail with */
  FREE_BYTES,    /* what the disk says is free, plus 1; 0: the truth */
  CLOCK_MS,      /* how far the clock of the computer is off */
  TORN_LEFT,     /* the n-th write from now stops half-way, and the process with it */
  TORN_FILES,    /* which files that concerns */
  HITS,          /* counted here: faults that happened */
  KNOBS
};

enum kind { NOT_OURS = 0, DATABASE = 1, LOG = 2, OTHER = 4 };

#define FDS 65536

/* What a range held before it was written, until the file is synced. */
struct before {
  struct before *next;
  off_t at;
  size_t length;
  char bytes[];
};

static _Atomic int64_t *knobs;
static char folder[4096];
static _Atomic unsigned char kinds[FDS];
/* By kind: a sync of any descriptor of a file is one of the file. */
static struct before *unsynced[OTHER + 1];
static pthread_mutex_t unsynced_lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off_t);
static int (*real_ftruncate64)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_open64)(const char *, int, ...);
static int (*real_openat64)(int, const char *, int, ...);
static int (*real_close)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_statvfs64)(const char *, struct statvfs64 *);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

/* Before any constructor of the program, whose first act may be to ask for the time. */
static void find_real(void) {
  if (real_clock_gettime) return;
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
  real_ftruncate64 = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_open64 = dlsym(RTLD_NEXT, "open64");
  real_openat64 = dlsym(RTLD_NEXT, "openat64");
  real_close = dlsym(RTLD_NEXT, "close");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_statvfs64 = dlsym(RTLD_NEXT, "statvfs64");
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void map_control(void) {
  find_real();
  const char *control = getenv("FAULT_SHIM_CONTROL");
  const char *of = getenv("FAULT_SHIM_FOLDER");
  if (!control || !of) return;
  int fd = real_open64(control, O_RDWR);
  if (fd < 0) abort();
  void *mapped =
      mmap(NULL, KNOBS * sizeof *knobs, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  real_close(fd);
  snprintf(folder, sizeof folder, "%s/", of);
  knobs = mapped;
}

static int64_t knob(enum knob which) { return knobs ? atomic_load(&knobs[which]) : 0; }

static void hit(void) { atomic_fetch_add(&knobs[HITS], 1); }

/* Takes one from a count; -1 has no end. */
static int take(enum knob which) {
  int64_t left = atomic_load(&knobs[which]);
  while (left > 0)
    if (atomic_compare_exchange_weak(&knobs[which], &left, left - 1)) return 1;
  return left < 0;
}

static enum kind kind_of(int fd) {
  return fd >= 0 && fd < FDS ? atomic_load(&kinds[fd]) : NOT_OURS;
}

static int ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

static enum kind kind_of_path(const char *path) {
  if (!knobs || strncmp(path, folder, strlen(folder)) != 0) return NOT_OURS;
  if (ends_with(path, "zapbus.db")) return DATABASE;
  if (ends_with(path, "zapbus.db-wal")) return LOG;
  /* The index of the log is rebuilt from it: losing it loses nothing. */
  if (ends_with(path, "zapbus.db-shm")) return NOT_OURS;
  return OTHER;
}

static void forget(struct before *list) {
  while (list) {
    struct before *next = list->next;
    free(list);
    list = next;
  }
}

/* What was written until now; what comes during a sync is not part of it. */
static struct before *take_unsynced(enum kind kind) {
  pthread_mutex_lock(&unsynced_lock);
  struct before *list = unsynced[kind];
  unsynced[kind] = NULL;
  pthread_mutex_unlock(&unsynced_lock);
  return list;
}

/* The newest first, so that the oldest content wins; the file keeps its length. */
static void lose_unsynced(int fd, enum kind kind) {
  struct before *list = take_unsynced(kind);
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  /* The one that is synced may be open for reading only. */
  int file = real_open64(link, O_WRONLY);
  for (struct before *gone = list; gone; gone = gone->next)
    real_pwrite64(file, gone->bytes, gone->length, gone->at);
  real_close(file);
  forget(list);
}

static void keep_before(int fd, enum kind kind, off_t at, size_t length) {
  if (knob(SYNC_LOSES) == 0 || kind == OTHER) return;
  struct before *before = calloc(1, sizeof *before + length);
  if (!before) abort();
  before->at = at;
  before->length = length;
  /* Beyond the end there were zeros, as a file system gives for blocks never written. */
  if (pread64(fd, before->bytes, length, at) < 0) memset(before->bytes, 0, length);
  pthread_mutex_lock(&unsynced_lock);
  before->next = unsynced[kind];
  unsynced[kind] = before;
  pthread_mutex_unlock(&unsynced_lock);
}

static int write_fails(int fd) {
  enum kind kind = kind_of(fd);
  int64_t code = kind == NOT_OURS ? 0 : knob(WRITE_ERRNO);
  if (code == 0 || (knob(WRITE_FILES) & kind) == 0) return 0;
  hit();
  errno = (int)code;
  return 1;
}

ssize_t write(int fd, const void *from, size_t length) {
  find_real();
  return write_fails(fd) ? -1 : real_write(fd, from, length);
}

ssize_t writev(int fd, const struct iovec *from, int count) {
  find_real();
  return write_fails(fd) ? -1 : real_writev(fd, from, count);
}

ssize_t pwrite64(int fd, const void *from, size_t length, off_t at) {
  find_real();
  if (write_fails(fd)) return -1;
  enum kind kind = kind_of(fd);
  if (kind != NOT_OURS) {
    if (knob(TORN_LEFT) > 0 && (knob(TORN_FILES) & kind) != 0 && take(TORN_LEFT) &&
        knob(TORN_LEFT) == 0) {
      hit();
      real_pwrite64(fd, from, length / 2, at);
      kill(getpid(), SIGKILL);
      for (;;) pause();
    }
    keep_before(fd, kind, at, length);
  }
  return real_pwrite64(fd, from, length, at);
}

ssize_t pwrite(int fd, const void *from, size_t length, off_t at) {
  return pwrite64(fd, from, length, at);
}

int ftruncate64(int fd, off_t length) {
  find_real();
  return write_fails(fd) ? -1 : real_ftruncate64(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_file(int fd, int (*real)(int)) {
  enum kind kind = kind_of(fd);
  if (kind == NOT_OURS) return real(fd);
  int64_t delay = knob(SYNC_DELAY_MS);
  if (delay > 0) {
    hit();
    usleep((useconds_t)delay * 1000);
  }
  int64_t code = knob(SYNC_ERRNO);
  if (code != 0 && (knob(SYNC_FILES) & kind) != 0 && take(SYNC_LEFT)) {
    hit();
    if (knob(SYNC_LOSES) && kind != OTHER) lose_unsynced(fd, kind);
    errno = (int)code;
    return -1;
  }
  forget(take_unsynced(kind));
  return real(fd);
}

int fsync(int fd) {
  find_real();
  return sync_file(fd, real_fsync);
}

int fdatasync(int fd) {
  find_real();
  return sync_file(fd, real_fdatasync);
}

/* Whether making or changing something at `path` (relative to the working folder) fails. */
static int open_fails(const char *path) {
  int64_t code = knob(OPEN_ERRNO);
  if (code == 0) return 0;
  char parent[4096], real_parent[4096], whole[8192];
  const char *name = strrchr(path, '/');
  snprintf(parent, sizeof parent, "%.*s", name ? (int)(name - path) : 1, name ? path : ".");
  if (!realpath(parent, real_parent)) return 0;
  snprintf(whole, sizeof whole, "%s/%s", real_parent, name ? name + 1 : path);
  if (kind_of_path(whole) == NOT_OURS) return 0;
  hit();
  errno = (int)code;
  return 1;
}

static int opened(int fd) {
  if (fd < 0 || fd >= FDS || !knobs) return fd;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length < 0 ? 0 : length] = 0;
  atomic_store(&kinds[fd], kind_of_path(path));
  return fd;
}

static int writes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

int open64(const char *path, int flags, ...) {
  find_real();
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if (knobs && writes(flags) && open_fails(path)) return -1;
  return opened(real_open64(path, flags, mode));
}

int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  return open64(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
  find_real();
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if (knobs && at == AT_FDCWD && writes(flags) && open_fails(path)) return -1;
  return opened(real_openat64(at, path, flags, mode));
}

int openat(int at, const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  return openat64(at, path, flags, mode);
}

int close(int fd) {
  find_real();
  if (kind_of(fd) != NOT_OURS) atomic_store(&kinds[fd], NOT_OURS);
  return real_close(fd);
}

int rename(const char *from, const char *to) {
  find_real();
  if (knobs && open_fails(to)) return -1;
  return real_rename(from, to);
}

int statvfs64(const char *path, struct statvfs64 *of) {
  find_real();
  int done = real_statvfs64(path, of);
  int64_t free_bytes = knob(FREE_BYTES);
  if (done == 0 && free_bytes > 0) of->f_bavail = (free_bytes - 1) / of->f_frsize;
  return done;
}

int clock_gettime(clockid_t which, struct timespec *at) {
  find_real();
  int done = real_clock_gettime(which, at);
  int64_t off = which == CLOCK_REALTIME ? knob(CLOCK_MS) : 0;
  if (done == 0 && off != 0) {
    at->tv_sec += off / 1000;
    at->tv_nsec += off % 1000 * 1000000;
    if (at->tv_nsec >= 1000000000) at->tv_sec++, at->tv_nsec -= 1000000000;
    if (at->tv_nsec < 0) at->tv_sec--, at->tv_nsec += 1000000000;
  }
  return done;
}
