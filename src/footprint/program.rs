//! The pages of the program itself: its code and constants, which nobody writes to.
//!
//! When a page of a file is first touched, Linux maps those around it as well, 64 KB in all, where they are in the page
//! cache. That is for programs that start; one that idles would seem to use five times what it runs, again within
//! seconds after it gave all of it back. The kernel leaves this out where a page's first touch means something to a
//! `userfaultfd`, so the program registers itself with one (asynchronous write protection, Linux 6.7: nothing is ever
//! protected, and no fault is reported to anybody). Elsewhere, or where that is forbidden, all stays as it is.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::OnceLock,
};

unsafe extern "C" {
    /// Where the program begins in memory, by the linker.
    #[link_name = "__executable_start"]
    static PROGRAM: u8;
    /// The first byte behind its code.
    #[link_name = "etext"]
    static END_OF_CODE: u8;
}

/// What keeps the program's pages apart, once that was tried.
static APART: OnceLock<io::Result<OwnedFd>> = OnceLock::new();

/// Unmaps the pages of code and constants: reading one maps it again, and from the first time on it alone.
pub(super) fn unmap() {
    let Some(pages) = Pages::within(&raw const PROGRAM, &raw const END_OF_CODE) else {
        return;
    };
    if let Err(error) = APART.get_or_init(|| pages.keep_apart()) {
        tracing::trace!(%error, "pages of the program are mapped in groups");
    }
    // SAFETY: the range is the read-only part of this program's file, mapped by the kernel, private and never written: its
    // pages come back from the file as they were.
    unsafe { libc::madvise(pages.start.as_ptr().cast(), pages.length, libc::MADV_DONTNEED) };
}

/// Whole pages of memory, mapped from a file.
struct Pages {
    start: NonNull<u8>,
    /// Bytes.
    length: usize,
}

impl Pages {
    /// From a page's start on; a last page that is not whole is left out.
    fn within(from: *const u8, to: *const u8) -> Option<Self> {
        // SAFETY: asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        let length = to.addr().checked_sub(from.addr())? / page * page;
        let start = NonNull::new(from.cast_mut())?;
        (start.as_ptr().addr().is_multiple_of(page)).then_some(Self { start, length })
    }

    /// Has each page mapped by its own first touch, for as long as the descriptor is open.
    ///
    /// # Errors
    /// Where the kernel cannot (before Linux 6.7) or may not (a filter of system calls).
    fn keep_apart(&self) -> io::Result<OwnedFd> {
        // SAFETY: the call takes flags and returns a new descriptor or an error.
        let fd = succeeded(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | uffd::USER_MODE_ONLY) })?;
        // SAFETY: the descriptor was just made, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) };
        let mut handshake = uffd::Handshake {
            api: uffd::API,
            features: uffd::ASYNCHRONOUS_WRITE_PROTECTION,
            ioctls: 0,
        };
        // SAFETY: the ioctl reads and writes this struct, whose size is in its number.
        succeeded(unsafe { libc::ioctl(fd.as_raw_fd(), uffd::HANDSHAKE, &raw mut handshake) }.into())?;
        let mut register = uffd::Register {
            start: self.start.as_ptr().addr() as u64,
            length: self.length as u64,
            mode: uffd::WRITE_PROTECTION,
            ioctls: 0,
        };
        // SAFETY: as above; the range belongs to this process, and faults in it are resolved by the kernel as before.
        succeeded(unsafe { libc::ioctl(fd.as_raw_fd(), uffd::REGISTER, &raw mut register) }.into())?;
        Ok(fd)
    }
}

fn succeeded(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The part of `linux/userfaultfd.h` that is used here, which libc does not have.
mod uffd {
    pub(super) const API: u64 = 0xaa;
    /// `UFFD_USER_MODE_ONLY`: all that an unprivileged process may have.
    pub(super) const USER_MODE_ONLY: i32 = 1;
    /// `UFFD_FEATURE_WP_ASYNC`.
    pub(super) const ASYNCHRONOUS_WRITE_PROTECTION: u64 = 1 << 15;
    /// `UFFDIO_REGISTER_MODE_WP`.
    pub(super) const WRITE_PROTECTION: u64 = 1 << 1;
    /// `UFFDIO_API`: number 0x3f of 0xaa, with a [`Handshake`].
    pub(super) const HANDSHAKE: libc::Ioctl = 0xc018_aa3f;
    /// `UFFDIO_REGISTER`: number 0 of 0xaa, with a [`Register`].
    pub(super) const REGISTER: libc::Ioctl = 0xc020_aa00;

    /// `struct uffdio_api`.
    #[repr(C)]
    pub(super) struct Handshake {
        pub(super) api: u64,
        pub(super) features: u64,
        pub(super) ioctls: u64,
    }

    /// `struct uffdio_register` with its range.
    #[repr(C)]
    pub(super) struct Register {
        pub(super) start: u64,
        pub(super) length: u64,
        pub(super) mode: u64,
        pub(super) ioctls: u64,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    const SIZE: usize = 64 << 12;

    /// Resident KB of the mapping that begins there.
    fn resident(start: *const u8) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("a process sees its own memory");
        let head = format!("{:x}-", start.addr());
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&head));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).expect("the mapping");
        rss.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn a_touched_page_is_mapped_alone() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; SIZE]).expect("room for it");
        let map = |file: &File| {
            let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
            // SAFETY: makes a new mapping where the kernel has room.
            let address = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, read, private, file.as_raw_fd(), 0) };
            assert_ne!(address, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            address.cast::<u8>().cast_const()
        };
        let start = map(&file);
        let pages = Pages::within(start, start.wrapping_add(SIZE)).expect("whole pages");
        let apart = match pages.keep_apart() {
            Ok(apart) => apart,
            Err(error) => {
                eprintln!("SKIPPED: this kernel does not keep pages apart: {error}");
                return;
            }
        };
        let touch = |nth: usize| {
            // SAFETY: within the mapping, which is readable.
            assert_eq!(unsafe { start.add(nth << 12).read_volatile() }, 7);
        };
        touch(20);
        assert_eq!(resident(start), 4);
        touch(22);
        assert_eq!(resident(start), 8);
        drop(apart);
        touch(40);
        assert!(resident(start) > 12, "and with those around it by default");
    }
}
