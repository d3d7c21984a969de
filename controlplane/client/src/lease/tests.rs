use super::*;
use crate::fake::Fake;

fn at() -> NamespacedName {
    NamespacedName {
        namespace: Some("kube-system".into()),
        name: "kube-scheduler".into(),
    }
}

#[test]
fn a_lease_is_taken_when_it_was_still_for_its_duration() {
    let since = Instant::now();
    let observed = |holder: Option<&str>| Observed {
        record: Record {
            holder_identity: holder.map(Into::into),
            lease_duration_seconds: Some(15),
            ..Record::default()
        },
        since,
    };
    let at = |seconds| since + Duration::from_secs(seconds);
    for (holder, now, step) in [
        (Some("me"), at(0), Step::Renew),
        (Some("me"), at(99), Step::Renew),
        (None, at(0), Step::Take),
        (Some(""), at(0), Step::Take),
        (Some("other"), at(14), Step::Wait),
        (Some("other"), at(15), Step::Take),
    ] {
        assert_eq!(
            decide(&observed(holder), "me", Duration::from_secs(15), now),
            step,
            "{holder:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_at_a_time_and_the_next_takes_over() {
    let fake = Fake::new();
    let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
    let leading = std::cell::RefCell::new(Vec::new());
    let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
    let candidate = |identity: &'static str, stop: CancellationToken| {
        let (client, clock, leading) = (fake.client(), clock.clone(), &leading);
        async move {
            let election = Election::new(at(), identity.to_owned());
            lead(&client, &election, &clock, &stop, |term| async move {
                leading.borrow_mut().push(format!("{identity} leads"));
                term.cancelled().await;
                leading.borrow_mut().push(format!("{identity} ends"));
            })
            .await;
        }
    };
    let script = async {
        sleep(Duration::from_secs(60)).await;
        stop_a.cancel();
        sleep(Duration::from_secs(5)).await;
        stop_b.cancel();
    };
    let b = async {
        sleep(Duration::from_secs(1)).await;
        candidate("b", stop_b.clone()).await;
    };
    tokio::join!(candidate("a", stop_a.clone()), b, script);
    assert_eq!(*leading.borrow(), ["a leads", "a ends", "b leads", "b ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops() {
    let fake = Fake::new();
    let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
    let stop = CancellationToken::new();
    let start = Instant::now();
    let client = fake.client();
    let election = Election::new(at(), "a".to_owned());
    let ended = std::cell::Cell::new(None);
    let run = lead(&client, &election, &clock, &stop, |term| {
        fake.down.store(true, std::sync::atomic::Ordering::Relaxed);
        let (ended, stop) = (&ended, &stop);
        async move {
            term.cancelled().await;
            ended.set(Some(start.elapsed()));
            stop.cancel();
        }
    });
    run.await;
    let ended = ended.get().unwrap();
    assert!(
        ended >= Duration::from_secs(10) && ended < Duration::from_secs(15),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_creates_its_lease_and_renews_it() {
    let fake = Fake::new();
    let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
    let heartbeat = Heartbeat {
        lease: at(),
        holder: "n1".into(),
        duration: Duration::from_secs(40),
        owner: None,
    };
    let client = fake.client();
    let beats = async {
        tokio::select! { never = beat(&client, &heartbeat, &clock) => match never {}, () = sleep(Duration::from_secs(35)) => {} }
    };
    beats.await;
    let lease: Object = client.get(&kinds::LEASE, &at()).await.unwrap();
    assert_eq!(lease.str_at("spec.holderIdentity"), Some("n1"));
    assert_eq!(lease.resource_version(), Some("4"));
}
