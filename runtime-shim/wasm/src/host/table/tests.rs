use super::*;

fn container(id: &str) -> Change {
    Change::Container(Box::new(ContainerRecord {
        container: cri::Container {
            id: ContainerId(id.to_owned()),
            sandbox: SandboxId("s".to_owned()),
            pod_uid: String::new(),
            config: cri::ContainerConfig::default(),
            state: cri::ContainerState::Created,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path: String::new(),
            user: None,
        },
        code_key: String::new(),
    }))
}

fn table() -> (Arc<Table>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    (Table::new(directory.path().to_owned()), directory)
}

fn subscribed(table: &Table, after: Option<u64>, room: usize) -> (mpsc::Receiver<FromHost>, CancellationToken) {
    let (outbox, messages) = mpsc::channel(room);
    let closed = CancellationToken::new();
    table.subscribe(
        7,
        after,
        Subscriber {
            outbox,
            closed: closed.clone(),
        },
    );
    (messages, closed)
}

/// The sequence numbers that have arrived after the reply, and whether the reply said they are all.
fn received(messages: &mut mpsc::Receiver<FromHost>) -> (bool, Vec<u64>) {
    let Ok(FromHost::Reply {
        id: 7,
        result: Ok(Answer::Subscribed { complete }),
    }) = messages.try_recv()
    else {
        panic!("no reply")
    };
    let events = std::iter::from_fn(|| match messages.try_recv() {
        Ok(FromHost::Event(event)) => Some(event.sequence),
        _ => None,
    });
    (complete, events.collect())
}

#[test]
fn a_change_is_in_its_file_before_it_is_told() {
    let (table, directory) = table();
    let (mut messages, _) = subscribed(&table, None, 10);
    table.change(container("c")).expect("recorded");
    let file = fs::read(directory.path().join("container-c.json")).expect("written");
    let record: ContainerRecord = serde_json::from_slice(&file).expect("read");
    assert_eq!(Some(record), table.container(&ContainerId("c".to_owned())));
    assert_eq!(received(&mut messages), (true, vec![1]));
}

#[test]
fn a_removed_thing_leaves_no_file() {
    let (table, directory) = table();
    table.change(container("c")).expect("recorded");
    table
        .change(Change::ContainerRemoved(ContainerId("c".to_owned())))
        .expect("recorded");
    assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 0);
}

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    let (table, directory) = table();
    drop(directory);
    table.change(container("c")).expect_err("no directory");
    assert_eq!(table.container(&ContainerId("c".to_owned())), None);
    assert_eq!(table.sequence(), 0);
}

#[test]
fn who_comes_back_is_told_what_was_missed_or_that_it_is_lost() {
    let (table, _directory) = table();
    for _ in 0..RING + 10 {
        table.change(container("c")).expect("recorded");
    }
    let last = (RING + 10) as u64;
    let told = |after| received(&mut subscribed(&table, after, RING + 10).0);
    assert_eq!(told(Some(last - 2)), (true, vec![last - 1, last]));
    assert_eq!(told(Some(last)), (true, vec![]));
    assert_eq!(told(None), (true, vec![]));
    assert_eq!(told(Some(10)).1.len(), RING);
    assert!(told(Some(10)).0);
    assert!(!told(Some(9)).0);
    assert!(!told(Some(last + 1)).0);
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_holds_up_nobody() {
    let (table, _directory) = table();
    let (_messages, closed) = subscribed(&table, None, 1);
    table.change(container("c")).expect("recorded");
    assert!(closed.is_cancelled());
    table.change(container("c")).expect("recorded");
}

#[test]
fn pages_hold_everything_once() {
    let (table, _directory) = table();
    for index in 0..PAGE_ITEMS * 2 + 3 {
        table.change(container(&format!("{index:04}"))).expect("recorded");
    }
    let mut seen = Vec::new();
    let mut cursor = Some(Cursor::Start);
    while let Some(after) = cursor {
        let page = table.page(&after);
        seen.extend(page.containers.into_iter().map(|record| record.container.id.0));
        cursor = page.next;
    }
    let expected: Vec<_> = (0..PAGE_ITEMS * 2 + 3).map(|index| format!("{index:04}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_older_agent_is_fenced() {
    let (table, _directory) = table();
    assert_eq!(table.follow(5), Ok(()));
    assert_eq!(table.follow(4), Err(5));
    assert_eq!(table.follow(5), Ok(()));
}

#[test]
fn an_end_is_told_even_if_no_file_can_be_written() {
    let (table, directory) = table();
    let (mut messages, _closed) = subscribed(&table, None, 8);
    drop(directory);
    assert!(table.change(container("a")).is_err(), "what begins needs its file");
    table.record_end(container("a"));
    assert!(table.container(&ContainerId("a".to_owned())).is_some());
    assert_eq!(received(&mut messages), (true, vec![1]));
}
