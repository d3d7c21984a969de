//! What the program's processes give back while nothing happens.
//!
//! Starting, and whatever else is rare, leaves two things behind that an idle process does not need: pages that the
//! allocator keeps for later, and pages of the program itself (of 50 MB, an idle cluster runs some 6). The first are
//! purged; the second are only unmapped: they stay in the page cache, and what is run again is mapped again at once.

mod program;

use std::{convert::Infallible, time::Duration};

/// How often a process looks at what it did.
const LOOK: Duration = Duration::from_secs(5);
/// CPU time within [`LOOK`] up to which a process is at rest.
const AT_REST: Duration = Duration::from_millis(100);
/// CPU time since it last gave back, from which it may have something to give.
const WORTH_IT: Duration = Duration::from_millis(150);
/// CPU time within [`LOOK`] up to which a process is asleep: it does what clocks tell it to, and nobody waits for it.
const ASLEEP: Duration = Duration::from_millis(25);
/// What is worth it then: giving back, and what it takes to map the pages again, is about a millisecond.
const WORTH_IT_ASLEEP: Duration = Duration::from_millis(10);
/// And when it has slept since so many looks.
const WORTH_IT_LATER: Duration = Duration::from_millis(1);
const LATER: u32 = 12;

/// How the allocator is set up, read by it at the start: one arena for each processor, and what is free for a second
/// goes back to the system.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8; 57] = b"percpu_arena:percpu,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

/// Gives back what is not needed, whenever the process has come to rest after work. Runs until it is dropped.
pub(crate) async fn stay_small() -> Infallible {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if watch.is_due(cpu_time()) {
            purge_allocator();
            program::unmap();
            watch.gave_back(cpu_time());
        }
    }
}

/// CPU times of the process: at the last look, and when it last gave back.
#[derive(Default)]
struct Watch {
    looked: Duration,
    given_back: Option<Duration>,
    /// Looks since then.
    looks: u32,
}

impl Watch {
    /// Whether a process with this CPU time is at rest and has worked since it gave back, or since its start.
    fn is_due(&mut self, now: Duration) -> bool {
        let before = std::mem::replace(&mut self.looked, now);
        self.looks = self.looks.saturating_add(1);
        let busy = now.saturating_sub(before);
        let worth_it = match busy {
            busy if busy > ASLEEP => WORTH_IT,
            _ if self.looks < LATER => WORTH_IT_ASLEEP,
            _ => WORTH_IT_LATER,
        };
        let worked = |since| now.saturating_sub(since) >= worth_it;
        busy <= AT_REST && self.given_back.is_none_or(worked)
    }

    fn gave_back(&mut self, now: Duration) {
        (self.given_back, self.looks) = (Some(now), 0);
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

fn purge_allocator() {
    // 4096 stands for all arenas (MALLCTL_ARENAS_ALL).
    let purge = c"arena.4096.purge".as_ptr();
    let none = std::ptr::null_mut::<Infallible>().cast();
    // SAFETY: the name ends in a zero, and this control neither reads nor writes a value.
    unsafe { tikv_jemalloc_sys::mallctl(purge, none, std::ptr::null_mut(), none, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_once_after_work() {
        let mut watch = Watch::default();
        let milliseconds = Duration::from_millis;
        for (now, due) in [
            (400, false),
            (450, true),
            (459, false),
            (1000, false),
            (1010, true),
            (1015, false),
            (1045, false), // answers somebody now and then
            (1075, false),
            (1080, true),
        ] {
            let now = milliseconds(now);
            assert_eq!(watch.is_due(now), due, "{now:?}");
            if due {
                watch.gave_back(now);
            }
        }
        let long: Vec<bool> = (1..=LATER)
            .map(|nth| watch.is_due(milliseconds(1080 + u64::from(nth) / 4)))
            .collect();
        assert_eq!(long.iter().position(|due| *due), usize::try_from(LATER - 1).ok());
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        program::unmap();
        purge_allocator();
        assert_eq!(format!("{}{}", "still ", "here"), "still here");
    }

    #[test]
    fn the_allocator_is_set_up() {
        assert_eq!(CONFIGURATION.last(), Some(&0));
        let mut decay: isize = 0;
        let (value, mut size) = ((&raw mut decay).cast(), size_of::<isize>());
        let name = c"opt.dirty_decay_ms".as_ptr();
        // SAFETY: the control writes one `ssize_t`.
        let failed = unsafe { tikv_jemalloc_sys::mallctl(name, value, &raw mut size, std::ptr::null_mut(), 0) };
        assert_eq!((failed, decay), (0, 1000));
    }
}
