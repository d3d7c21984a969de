//! Runs a target for a while: first the inputs it has, then mutations of them.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::mutate::Mutator;

/// How long one input may take; the machine may be busy.
const SLOW: Duration = Duration::from_secs(20);
/// Seconds for a target unless `WHERRY_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 2;

/// Something that eats bytes.
pub struct Target {
    /// The name of its directory of inputs.
    pub name: &'static str,
    /// What is put into inputs now and then.
    pub words: &'static [&'static str],
    /// Panics when something is wrong; a refusal is not.
    pub run: fn(&[u8]),
}

/// Where the inputs lie, a directory for each target.
pub fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = match fs::read_dir(corpora().join(name)) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files.iter().map(|file| fs::read(file).expect("an input")).collect()
}

fn seconds() -> Duration {
    let text = std::env::var("WHERRY_FUZZ_SECONDS").ok();
    Duration::from_secs(text.map_or(SECONDS, |text| text.parse().expect("WHERRY_FUZZ_SECONDS is a number")))
}

/// Runs a target for its time.
///
/// # Panics
/// With the place of the input, when one breaks something.
pub fn drive(target: &Target) {
    let inputs = corpus(target.name);
    assert!(
        !inputs.is_empty(),
        "corpus/{} has the inputs to begin with",
        target.name
    );
    inputs.iter().for_each(|input| attempt(target, input));
    let seed = std::env::var("WHERRY_FUZZ_SEED")
        .ok()
        .map(|text| text.parse().expect("WHERRY_FUZZ_SEED is a number"));
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    let mut mutator = Mutator::new(StdRng::seed_from_u64(seed), inputs, target.words);
    let (end, mut count) = (Instant::now() + seconds(), 0_u64);
    while Instant::now() < end {
        attempt(target, &mutator.next());
        count += 1;
    }
    println!("{}: {count} inputs of seed {seed}", target.name);
}

fn attempt(target: &Target, input: &[u8]) {
    let begun = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begun.elapsed();
    if ran.is_ok() && took < SLOW {
        return;
    }
    let kept = tempfile::Builder::new()
        .prefix(&format!("{}-", target.name))
        .tempfile()
        .expect("a file");
    fs::write(kept.path(), input).expect("a file can be written");
    let (_, path) = kept.keep().expect("a file stays");
    let what = if ran.is_err() { "broke it" } else { "took too long" };
    panic!(
        "{}: an input {what} ({took:?}): {}\n{}",
        target.name,
        path.display(),
        input.escape_ascii()
    );
}
