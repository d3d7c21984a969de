//! Runs seeds, each in a process of its own, as many at once as there are processors: a seed cannot disturb another, and
//! one that hangs is ended.

use std::{
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Seconds of real time that a seed may take, on a busy machine.
const LONGEST: u32 = 600;
/// How much of the end of what a failed run said is repeated.
const TAIL: usize = 3000;

/// What became of one seed.
pub struct Run {
    seed: u64,
    output: Output,
}

impl Run {
    /// The report of a run that converged, without the time it took.
    pub fn report(&self) -> Option<&str> {
        let said = std::str::from_utf8(&self.output.stdout).ok()?;
        let line = said
            .lines()
            .find(|line| line.contains(&format!("seed {}: Report", self.seed)))?;
        line.split(" in ").next()
    }

    /// What went wrong, and how to see it again.
    pub fn complaint(&self) -> Option<String> {
        if self.output.status.success() && self.report().is_some() {
            return None;
        }
        let said = [&self.output.stdout[..], &self.output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        let from = said.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
        Some(format!(
            "WHERRY_SEED={} cargo test -p simulation --test seeds one_seed_converges -- --nocapture\n{}\n{}",
            self.seed,
            self.output.status,
            &said[from..]
        ))
    }
}

/// Runs every seed and returns what became of each, in their order.
pub fn run(seeds: &[u64]) -> Vec<Run> {
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = Run {
                        seed,
                        output: start(seed),
                    };
                    if let Some(complaint) = run.complaint() {
                        eprintln!("{complaint}");
                    }
                    runs.lock().expect("nobody panics").push(run);
                }
            });
        }
    });
    let mut runs = runs.into_inner().expect("nobody panics");
    runs.sort_by_key(|run| run.seed);
    runs
}

fn start(seed: u64) -> Output {
    let this = std::env::current_exe().expect("the path of this program");
    Command::new("timeout")
        .arg(LONGEST.to_string())
        .arg(this)
        .args(["--exact", "one_seed_converges", "--nocapture"])
        .env("WHERRY_SEED", seed.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("starts")
}
