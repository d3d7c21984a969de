//! One seed for all randomness of a thread.
//!
//! Hash maps, tokio's `select!` and every generator of the `rand` crate are seeded from the C library's `getrandom`.
//! This crate brings a `getrandom` of its own, which the linker prefers: on a thread that runs under [`seeded`] it
//! answers from the seed, everywhere else it asks the kernel. Production code needs no seam for it.

use std::{cell::Cell, ffi::c_void};

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Of such a thread: what is not optimised takes much.
const STACK: usize = 64 << 20;

/// Runs `work` on a thread whose randomness is a function of `seed`.
pub fn seeded<T: Send>(seed: u64, work: impl FnOnce() -> T + Send) -> T {
    let thread = || {
        STATE.set(Some(seed));
        // A call by name, so that the linker takes this definition and not the C library's alone.
        let mut first = [0_u8; 8];
        // SAFETY: the buffer is as long as is said.
        unsafe { getrandom(first.as_mut_ptr().cast(), first.len(), 0) };
        work()
    };
    let ended = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, thread).expect("a thread starts").join()
    });
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The C library's function of that name, see `getrandom(2)`.
///
/// # Safety
/// `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: u32) -> isize {
    let Some(mut state) = STATE.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the caller's promise is the kernel's condition.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(got).unwrap_or(-1);
    };
    // SAFETY: the caller promises that the buffer is writable for `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&split_mix(&mut state).to_le_bytes()[..chunk.len()]);
    }
    STATE.set(Some(state));
    length.cast_signed()
}

/// SplitMix64: every seed gives a sequence of its own.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn draw() -> (u64, u64) {
        (rand::random(), RandomState::new().hash_one(1))
    }

    #[test]
    fn a_seed_determines_generators_and_hash_maps() {
        assert_eq!(seeded(7, draw), seeded(7, draw));
        assert_ne!(seeded(7, draw).0, seeded(8, draw).0);
        assert_ne!(seeded(7, draw).1, seeded(8, draw).1);
    }

    #[test]
    fn other_threads_are_random() {
        let other = || std::thread::scope(|scope| scope.spawn(draw).join()).unwrap();
        assert_ne!(other(), other());
    }
}
