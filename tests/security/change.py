# Changes everything that a program can change about itself.
import ctypes as c, os as o, resource as r, signal as s
o.nice(3)
o.sched_setaffinity(0, {min(o.sched_getaffinity(0))})
o.umask(0)
r.setrlimit(r.RLIMIT_NOFILE, (64, 64))
r.setrlimit(r.RLIMIT_CPU, (50, 50))
s.pthread_sigmask(s.SIG_BLOCK, range(34, 60))
s.signal(s.SIGTERM, s.SIG_IGN)
c.CDLL(None).syscall(251 if o.uname().machine == "x86_64" else 30, 1, 0, 3 << 13)
# Timer slack, dumpable, subreaper.
for a in ((29, 1000), (4, 0), (36, 1)):
    c.CDLL(None).prctl(*a, 0, 0, 0)
o.sched_setscheduler(0, o.SCHED_IDLE, o.sched_param(0))
