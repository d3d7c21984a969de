//! Generated operations of several clients, each done at the API server and in a small model of it, whose answers are
//! compared: codes and reasons, what objects become, who owns which field, pages of lists, events of watches.
//!
//! The model is written from Kubernetes' documentation and knows nothing of the server. A run that fails is made smaller
//! and printed, with the seed that brings it back: `WHERRY_SEED=17 cargo test -p simulation --test model`. A few runs are
//! done in CI; `WHERRY_SEEDS=1000` does so many seeds. Deliberately absent: what controllers do, and several
//! servers; both are `seeds`' matter.

mod kinds;
mod object;
mod operation;
mod ownership;
mod predict;
mod reads;
mod session;
mod world;
mod writes;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
};

use harness::{api::Api, entropy, store::Weathered, weather::Weather};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::Value;

use crate::session::{JSON, Session};

/// How many seeds are tried unless `WHERRY_SEEDS` says otherwise.
const SEEDS: u64 = 4;
/// How many runs a seed makes, on one server.
const RUNS: u32 = 48;

type Tally = BTreeMap<String, u64>;

/// Tries a seed; what the server answered, or a run on which it and the model do not agree.
fn try_seed(seed: u64) -> Result<Tally, String> {
    entropy::seeded(seed, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime");
        let api = runtime.block_on(start());
        let (runs, tally) = (Cell::new(0_u32), RefCell::new(Tally::new()));
        let outcome = runner(seed).run(&operation::steps(), |steps| {
            runs.set(runs.get() + 1);
            runtime.block_on(async {
                let mut session = Session::begin(&api, format!("r{}", runs.get())).await;
                let verdict = session.run(&steps).await;
                for (what, times) in session.tally {
                    *tally.borrow_mut().entry(what).or_default() += times;
                }
                verdict.map_err(TestCaseError::fail)
            })
        });
        runtime.block_on(api.kill());
        match outcome {
            Ok(()) => Ok(tally.into_inner()),
            Err(TestError::Fail(why, steps)) => Err(format!("seed {seed}: {why}\nafter {steps:#?}")),
            Err(TestError::Abort(why)) => Err(format!("seed {seed}: {why}")),
        }
    })
}

fn runner(seed: u64) -> TestRunner {
    let config = Config {
        cases: RUNS,
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// A server alone, with the definition of widgets.
async fn start() -> Arc<Api> {
    let weather = Arc::new(Weather::new(0));
    let clock = client::Clock::anchored("2026-01-01T00:00:00Z".parse().expect("a time"));
    let api = Api::new(Weathered::new(weather.clone()), clock, weather);
    assert!(api.start().await, "the API server comes up");
    let session = Session::begin(&api, "begin".to_owned()).await;
    let one = operation::Client::One;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = session
        .send(one, http::Method::POST, definitions, JSON, &kinds::definition())
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    let widgets = "/apis/model.example.com/v1/widgets";
    while session
        .send(one, http::Method::GET, widgets, JSON, &Value::Null)
        .await
        .code
        != 200
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(session);
    api
}

fn of_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What must have been met, or the runs have shown little.
const MET: [&str; 24] = [
    "create 201",
    "create 403",
    "create 404",
    "create 409",
    "create 422",
    "create 500",
    "get 404",
    "list 422",
    "list 504",
    "continue 200",
    "update Whole 200",
    "update Whole 201",
    "update Whole 409",
    "update Status 200",
    "patch Json Whole 422",
    "patch Merge Whole 200",
    "patch Strategic Whole 415",
    "apply Whole 200",
    "apply Whole 201",
    "apply Whole 409",
    "scale 200",
    "delete 409",
    "delete collection 200",
    "watch 200",
];

#[test]
fn the_server_does_as_the_model_says() {
    let seeds = match of_environment("WHERRY_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=of_environment("WHERRY_SEEDS").unwrap_or(SEEDS),
    };
    let single = seeds.start() == seeds.end();
    let (mut tally, mut wrong) = (Tally::new(), Vec::new());
    for seed in seeds {
        match try_seed(seed) {
            Ok(met) => met
                .into_iter()
                .for_each(|(what, times)| *tally.entry(what).or_default() += times),
            Err(why) => {
                eprintln!("{why}");
                wrong.push(seed);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "server and model do not agree for the seeds {wrong:?}"
    );
    println!("{tally:#?}");
    let missing: Vec<&str> = MET.into_iter().filter(|what| !tally.contains_key(*what)).collect();
    assert!(single || missing.is_empty(), "never met: {missing:?}");
}
