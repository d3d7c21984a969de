//! Laws that hold whatever happens, in whatever order.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What may happen to a pod and its worker.
#[derive(Clone, Debug)]
enum Happening {
    /// The worker plans; this many of the actions are carried out, the rest later.
    Act(usize),
    /// The worker plans and reports.
    Report,
    Exit(&'static str, i32),
    Unhealthy(&'static str),
    LoseSandbox,
    RestartAgent,
    Wait(i64),
    FailStarts(bool),
    Delete(i64),
    Vanish,
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = prop_oneof![Just("init"), Just("side"), Just("web"), Just("two")];
    prop_oneof![
        8 => (0_usize..4).prop_map(Happening::Act),
        4 => Just(Happening::Report),
        3 => (name.clone(), 0..3).prop_map(|(name, code)| Happening::Exit(name, code)),
        1 => name.prop_map(Happening::Unhealthy),
        1 => Just(Happening::LoseSandbox),
        1 => Just(Happening::RestartAgent),
        3 => (1_i64..400).prop_map(Happening::Wait),
        1 => any::<bool>().prop_map(Happening::FailStarts),
    ]
}

fn ending() -> impl Strategy<Value = Happening> {
    prop_oneof![(0_i64..40).prop_map(Happening::Delete), Just(Happening::Vanish)]
}

fn policy() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")]
}

fn pod(policy: &str) -> Sim {
    Sim::new(json!({
        "restartPolicy": policy,
        "initContainers": [{"name": "init", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "web", "image": "i"}, {"name": "two", "image": "i"}],
    }))
}

fn happen(sim: &mut Sim, happening: &Happening) {
    match happening {
        Happening::Act(number) => {
            let plan = sim.plan();
            if plan.ending {
                sim.memory.ending_since = sim.memory.ending_since.or(Some(sim.now));
            }
            plan.actions
                .into_iter()
                .take(*number)
                .for_each(|action| sim.obey(action));
        }
        Happening::Report => sim.reported = sim.plan().status,
        Happening::Exit(name, code) => sim.exit(name, *code),
        Happening::Unhealthy(name) => {
            if sim.observed.latest(name).is_some_and(observed::Container::is_running) {
                sim.probed(name, |h| {
                    h.unhealthy = Some(Unhealthy {
                        message: String::new(),
                        grace: None,
                    })
                });
            }
        }
        Happening::LoseSandbox => {
            sim.observed.sandboxes.iter_mut().for_each(|s| s.ready = false);
            let living = sim.observed.containers.iter_mut().filter(|c| !c.has_ended());
            living.for_each(|c| c.state = ContainerState::Unknown);
        }
        Happening::RestartAgent => {
            sim.memory = Memory {
                first_seen: sim.now,
                removed: sim.memory.removed,
                ..Memory::default()
            };
        }
        Happening::Wait(seconds) => sim.now += SignedDuration::from_secs(*seconds),
        Happening::FailStarts(yes) => sim.failing = yes.then(|| ("web".into(), Reason::CreateContainerError)),
        Happening::Delete(grace) => sim.delete(*grace),
        Happening::Vanish => sim.memory.removed = true,
    }
}

const NAMES: [&str; 4] = ["init", "side", "web", "two"];

fn running(sim: &Sim, name: &str) -> usize {
    sim.observed
        .containers
        .iter()
        .filter(|c| c.name == name && c.is_running())
        .count()
}

proptest! {
    #[test]
    fn never_two_copies_and_counts_never_fall(policy in policy(), story in proptest::collection::vec(happening(), 1..60)) {
        let mut sim = pod(policy);
        let (mut counts, mut was_terminal) = ([0; 4], false);
        for happening in &story {
            happen(&mut sim, happening);
            let status = sim.plan().status;
            for (name, before) in NAMES.iter().zip(&mut counts) {
                prop_assert!(running(&sim, name) <= 1, "two copies of {name} after {happening:?}: {:#?}", sim.journal);
                let now = status.container(name).expect("status").restart_count;
                prop_assert!(now >= *before, "restarts of {name} fell from {before} to {now} after {happening:?}");
                if matches!(happening, Happening::Report) {
                    *before = now;
                }
            }
            prop_assert!(!was_terminal || status.phase.is_terminal(), "came back to life after {happening:?}");
            was_terminal |= matches!(happening, Happening::Report) && status.phase.is_terminal();
        }
    }

    #[test]
    fn every_pod_that_is_ended_comes_to_an_end(
        policy in policy(),
        story in proptest::collection::vec(happening(), 0..40),
        end in ending(),
    ) {
        let mut sim = pod(policy);
        story.iter().for_each(|happening| happen(&mut sim, happening));
        happen(&mut sim, &end);
        sim.settle();
        sim.memory.removed = true;
        let last = sim.settle();
        prop_assert!(last.done, "left over: {:#?}", sim.observed);
        prop_assert!(sim.observed.is_empty());
    }

    #[test]
    fn a_pod_that_is_left_alone_comes_to_rest(policy in policy(), story in proptest::collection::vec(happening(), 0..40)) {
        let mut sim = pod(policy);
        story.iter().for_each(|happening| happen(&mut sim, happening));
        sim.failing = None;
        sim.settle();
        let again = sim.plan();
        prop_assert_eq!(&again.actions, &Vec::new());
        prop_assert_eq!(again.status, sim.reported.clone(), "a second look says the same");
    }
}
