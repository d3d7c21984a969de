//! Names for objects that ask for one by `generateName`.

/// No vowels and no look-alikes, so that no words appear.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name is at most a DNS label long.
const MAX_BASE: usize = 63 - SUFFIX;

/// `base`, cut to leave room, and five random characters. `random(n)` gives an index below `n`.
pub fn generate_name(base: &str, random: &mut impl FnMut(usize) -> usize) -> String {
    let mut end = base.len().min(MAX_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    name.extend((0..SUFFIX).map(|_| {
        ALPHABET
            .get(random(ALPHABET.len()))
            .map_or('b', |byte| char::from(*byte))
    }));
    name
}
