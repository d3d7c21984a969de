use proptest::prelude::*;

use super::*;
use crate::testing::pod;

fn named(name: &str, priority: i32) -> Arc<Pod> {
    Arc::new(Pod {
        priority,
        ..(*pod(name, "1", "1Gi")).clone()
    })
}

fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.take(now))
        .map(|pod| pod.name.to_string())
        .collect()
}

#[test]
fn higher_priority_first_then_the_older() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
        queue.put(named(name, priority));
    }
    assert_eq!(names(&mut queue, now), ["b", "d", "a", "c"]);
}

#[test]
fn an_unschedulable_pod_waits_for_a_change_and_its_backoff() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let at = |ms| now + Duration::from_millis(ms);
    let a = named("a", 0);
    queue.put(a.clone());
    queue.take(now);
    queue.unschedulable(&a.key(), now);
    assert!(queue.take(at(5000)).is_none(), "nothing changed");
    queue.cluster_changed(at(5000));
    assert!(queue.take(at(5000)).is_some(), "back-off was over");
    queue.unschedulable(&a.key(), at(5000));
    queue.cluster_changed(at(5100));
    assert_eq!(queue.next_wake(), Some(at(7000)), "the second back-off is two seconds");
    assert!(queue.take(at(6999)).is_none());
    assert!(queue.take(at(7000)).is_some());
}

#[test]
fn a_change_during_the_attempt_is_not_missed() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let a = named("a", 0);
    queue.put(a.clone());
    queue.take(now);
    queue.cluster_changed(now);
    queue.unschedulable(&a.key(), now);
    assert_eq!(queue.next_wake(), Some(now + FIRST_BACKOFF));
}

#[test]
fn storage_concerns_pods_with_claims() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let with = Arc::new(Pod {
        claims: ["data".into()].into(),
        ..(*pod("with", "1", "1Gi")).clone()
    });
    let without = named("without", 0);
    for pod in [&with, &without] {
        queue.put(pod.clone());
    }
    queue.take(now).and(queue.take(now)).expect("both");
    for pod in [&with, &without] {
        queue.unschedulable(&pod.key(), now);
    }
    queue.storage_changed(now);
    assert_eq!(names(&mut queue, now + FIRST_BACKOFF), ["with"]);
}

#[test]
fn nobody_waits_for_ever() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let a = named("a", 0);
    queue.put(a.clone());
    queue.take(now);
    queue.unschedulable(&a.key(), now);
    assert!(queue.take(now + LONGEST_WAIT).is_some());
}

#[test]
fn a_namesake_starts_afresh() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let a = named("a", 0);
    queue.put(a.clone());
    queue.take(now);
    queue.unschedulable(&a.key(), now);
    queue.put(Arc::new(Pod {
        uid: "other".into(),
        ..(*a).clone()
    }));
    assert_eq!(names(&mut queue, now), ["a"]);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, i32),
    Remove(u8),
    Take,
    Fail(bool),
    Change,
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..5, 0i32..3).prop_map(|(n, p)| Step::Put(n, p)),
        (0u8..5).prop_map(Step::Remove),
        Just(Step::Take),
        any::<bool>().prop_map(Step::Fail),
        Just(Step::Change),
        (0u16..3000).prop_map(Step::Pass),
    ]
}

proptest! {
    /// A pod is in one place at a time, and every pod that was put and not removed is tried in the end.
    #[test]
    fn no_pod_is_lost_or_doubled(steps in prop::collection::vec(step(), 0..80)) {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let mut waiting = BTreeSet::new();
        let mut flying: Vec<Arc<Pod>> = Vec::new();
        for step in steps {
            match step {
                Step::Put(n, priority) => { queue.put(named(&format!("p{n}"), priority)); waiting.insert(format!("p{n}")); }
                Step::Remove(n) => {
                    let pod = named(&format!("p{n}"), 0);
                    queue.remove(&pod.key());
                    waiting.remove(&format!("p{n}"));
                    flying.retain(|p| p.name != pod.name);
                }
                Step::Take => if let Some(pod) = queue.take(now) {
                    prop_assert!(!flying.iter().any(|p| p.name == pod.name));
                    flying.push(pod);
                },
                Step::Fail(retry) => if let Some(pod) = flying.pop() {
                    if retry { queue.retry(&pod.key(), now) } else { queue.unschedulable(&pod.key(), now) }
                },
                Step::Change => queue.cluster_changed(now),
                Step::Pass(ms) => now += Duration::from_millis(ms.into()),
            }
        }
        let mut tried: BTreeSet<String> = flying.iter().map(|p| p.name.to_string()).collect();
        tried.extend(names(&mut queue, now + LONGEST_WAIT));
        prop_assert_eq!(tried, waiting);
    }
}
