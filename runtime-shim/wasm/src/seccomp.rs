//! A filter of system calls, as a classic BPF program: what is not listed fails with `EPERM`.
//!
//! Failing, not killing: a call that a new libc tries first and can do without must not take down a tenant's pods. What
//! matters is what is absent from the lists: `execve`, `ptrace`, `mount`, `setns`, `bpf`, `keyctl`, and every call on
//! another process. The lists are for x86-64; on other machines the filter is left out and the rest of the confinement
//! stands alone.

use std::io;

/// For a compile child: memory, threads, and the descriptors it has.
#[cfg(target_arch = "x86_64")]
pub(crate) const COMPILER: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_tgkill,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
];

/// For a sandbox host: besides, sockets, files and timers.
#[cfg(target_arch = "x86_64")]
pub(crate) const HOST: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_readv,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_getcwd,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_clock_getres,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_setaffinity,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];

#[cfg(not(target_arch = "x86_64"))]
pub(crate) const COMPILER: &[i64] = &[];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const HOST: &[i64] = &[];

/// Lays the filter over this process and everything it will start. The compiler's list is part of every other.
#[cfg(target_arch = "x86_64")]
pub(crate) fn install(allowed: &[i64]) -> io::Result<()> {
    let program = program(COMPILER.iter().chain(allowed).copied())?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `length` instructions that outlive the call; the kernel checks and copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The lists are for x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn install(_allowed: &[i64]) -> io::Result<()> {
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`.
#[cfg(target_arch = "x86_64")]
const NUMBER: u32 = 0;
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 4;

#[cfg(target_arch = "x86_64")]
fn program(allowed: impl Iterator<Item = i64>) -> io::Result<Vec<libc::sock_filter>> {
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, yes, no| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = vec![
        load(ARCH)?,
        equal(ARCHITECTURE, 1, 0)?,
        answer(libc::SECCOMP_RET_KILL_PROCESS)?,
        load(NUMBER)?,
    ];
    for number in allowed {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        program.push(equal(number, 0, 1)?);
        program.push(answer(libc::SECCOMP_RET_ALLOW)?);
    }
    program.push(answer(refuse)?);
    Ok(program)
}

#[cfg(target_arch = "x86_64")]
fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> io::Result<libc::sock_filter> {
    Ok(libc::sock_filter {
        code: u16::try_from(code).map_err(io::Error::other)?,
        jt,
        jf,
        k,
    })
}
