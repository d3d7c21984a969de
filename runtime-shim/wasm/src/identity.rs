//! Which build of wherry this process is of: the version, and the build id that the linker wrote into the program.
//!
//! Sandbox hosts outlive the agent that started them, so after an upgrade two builds meet. They are told apart by the
//! build id, which differs for any two programs that differ, released or not. A program without one (some linkers write
//! none) is known by its version alone.

use std::{fs::File, io, os::unix::fs::FileExt, sync::OnceLock};

/// The most of a program's notes that is looked at, in bytes.
const MAX_NOTES: u64 = 64 << 10;
/// Digits of a build id that are shown: enough that no two builds share them.
const DIGITS: usize = 12;
/// `PT_NOTE` of elf.h.
const SEGMENT_NOTE: u32 = 4;
/// `NT_GNU_BUILD_ID` of elf.h.
const BUILD_ID: u32 = 3;

/// The version of this process, such as `0.1.0+9f86d081884c`.
pub fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let release = env!("CARGO_PKG_VERSION");
        match File::open("/proc/self/exe").and_then(|program| build_id(&program)) {
            Ok(Some(id)) => format!("{release}+{}", hexadecimal(&id)),
            Ok(None) | Err(_) => release.to_owned(),
        }
    })
}

/// The build id of a 64-bit ELF program of this machine's byte order; `None` if it has none.
fn build_id(program: &File) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 64];
    program.read_exact_at(&mut header, 0)?;
    let (Some(table), Some(size), Some(count)) = (long(&header, 32), short(&header, 54), short(&header, 56)) else {
        return Ok(None);
    };
    if !header.starts_with(b"\x7fELF\x02") {
        return Ok(None);
    }
    for index in 0..u64::from(count) {
        let mut entry = [0; 56];
        program.read_exact_at(&mut entry, table.saturating_add(index * u64::from(size)))?;
        let (Some(kind), Some(offset), Some(length)) = (word(&entry, 0), long(&entry, 8), long(&entry, 32)) else {
            continue;
        };
        if kind != SEGMENT_NOTE {
            continue;
        }
        let mut notes = vec![0; usize::try_from(length.min(MAX_NOTES)).unwrap_or_default()];
        program.read_exact_at(&mut notes, offset)?;
        if let Some(id) = find_build_id(&notes) {
            return Ok(Some(id.to_vec()));
        }
    }
    Ok(None)
}

/// Looks through notes: lengths of name and content, a type, then both, each padded to four bytes.
fn find_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (name_length, length, kind) = (word(notes, 0)?, word(notes, 4)?, word(notes, 8)?);
        let padded = |length: u32| usize::try_from(length).ok()?.checked_next_multiple_of(4);
        let (name, rest) = notes.get(12..)?.split_at_checked(padded(name_length)?)?;
        if kind == BUILD_ID && name == b"GNU\0" {
            return rest.get(..usize::try_from(length).ok()?);
        }
        notes = rest.get(padded(length)?..)?;
    }
}

fn hexadecimal(id: &[u8]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(DIGITS).collect()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [name.len() as u32, content.len() as u32, kind] {
            note.extend(number.to_ne_bytes());
        }
        for part in [name, content] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn finds_the_build_id_among_other_notes() {
        let notes = [
            note(b"GNU\0", 1, &[0; 16]),
            note(b"Go\0\0", BUILD_ID, b"other"),
            note(b"GNU\0", BUILD_ID, &[0xab; 20]),
        ]
        .concat();
        assert_eq!(find_build_id(&notes), Some([0xab; 20].as_slice()));
        assert_eq!(find_build_id(&notes[..notes.len() - 24]), None);
    }

    #[test]
    fn a_file_that_is_no_program_has_none() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 200]).unwrap();
        assert_eq!(build_id(&file).unwrap(), None);
    }

    #[test]
    fn says_the_release_first_and_always_the_same() {
        assert!(version().starts_with(env!("CARGO_PKG_VERSION")));
        assert_eq!(version(), version());
    }

    proptest! {
        #[test]
        fn arbitrary_notes_never_panic(notes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = find_build_id(&notes);
        }
    }
}
