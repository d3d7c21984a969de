use jiff::Timestamp;

use super::*;
use crate::fake::Fake;

fn regarding() -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: "a".into(),
        name: "p".into(),
        uid: "u".into(),
        api_version: "v1".into(),
        ..ObjectRef::default()
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_one_event_with_a_count() {
    let fake = Fake::new();
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
    let recorder = Recorder::new(fake.client(), "kubelet", "n1", clock, &tasks, shutdown.clone());
    for _ in 0..3 {
        recorder.event(&regarding(), Type::Warning, "BackOff", "Restart", "back-off restarting");
    }
    let events = fake.wait_for(&kinds::EVENT, |events| {
        events.iter().any(|event| event.i64_at("count") == Some(3))
    });
    let events = events.await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event.str_at("message"), Some("back-off restarting"));
    assert_eq!(event.str_at("source.component"), Some("kubelet"));
    assert_eq!(event.str_at("involvedObject.uid"), Some("u"));
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts() {
    let fake = Fake::new();
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
    let recorder = Recorder::new(fake.client(), "kubelet", "n1", clock, &tasks, shutdown);
    for _ in 0..QUEUE + 7 {
        recorder.event(&regarding(), Type::Normal, "Pulled", "", "x"); // the writer has had no turn yet
    }
    assert_eq!(recorder.dropped(), 7);
}

#[test]
fn a_long_note_is_cut_at_a_character() {
    let note = truncated("ä".repeat(600));
    assert!(note.len() <= 1024 && note.ends_with("..."));
}
