use proptest::prelude::*;

use super::*;

fn limited(quota: i64) -> cri::Resources {
    cri::Resources {
        cpu_quota: quota,
        cpu_period: 100_000,
        ..Default::default()
    }
}

const MILLISECOND: u64 = 1_000_000;

#[test]
fn without_a_quota_nobody_waits() {
    let now = Instant::now();
    let account = Account::new(&cri::Resources::default(), now);
    account.charge(3600 * 1000 * MILLISECOND);
    assert_eq!(account.debt(now), None);
}

#[test]
fn a_debt_is_paid_at_the_rate_of_the_quota() {
    let now = Instant::now();
    // A tenth of a core; 10 ms may be used at once.
    let account = Account::new(&limited(10_000), now);
    account.charge(10 * MILLISECOND);
    assert_eq!(account.debt(now), None);
    account.charge(5 * MILLISECOND);
    assert_eq!(account.debt(now), Some(Duration::from_millis(50)));
    assert_eq!(
        account.debt(now + Duration::from_millis(20)),
        Some(Duration::from_millis(30))
    );
    assert_eq!(account.debt(now + Duration::from_millis(50)), None);
}

#[test]
fn pauses_are_not_saved_up() {
    let now = Instant::now();
    let account = Account::new(&limited(10_000), now);
    let later = now + Duration::from_secs(3600);
    assert_eq!(account.debt(later), None);
    account.charge(11 * MILLISECOND);
    assert_eq!(account.debt(later), Some(Duration::from_millis(10)));
}

#[test]
fn turns_follow_the_shares() {
    let turn_of = |cpu_shares| {
        turn(&cri::Resources {
            cpu_shares,
            ..Default::default()
        })
    };
    assert_eq!(turn_of(1024), TURN_PER_CORE);
    assert_eq!(turn_of(512), TURN_PER_CORE / 2);
    assert_eq!(turn_of(262_144), LONGEST_TURN);
    assert_eq!(turn_of(2), SHORTEST_TURN);
}

#[test]
fn quotas_are_read_as_cri_has_them() {
    for (quota, period, expected) in [
        (50_000, 100_000, 500),
        (200_000, 100_000, 2000),
        (0, 0, 0),
        (-1, 100_000, 0),
        (50_000, 0, 500),
        (1, 100_000, 1),
    ] {
        let resources = cri::Resources {
            cpu_quota: quota,
            cpu_period: period,
            ..Default::default()
        };
        assert_eq!(milli(&resources), expected, "{quota}/{period}");
    }
}

proptest! {
    /// Whoever asks before each use is never ahead of the quota by more than the burst and one use.
    #[test]
    fn use_stays_within_the_quota(uses in prop::collection::vec(1_u64..20, 1..50)) {
        let start = Instant::now();
        let account = Account::new(&limited(50_000), start);
        let mut now = start;
        for used in &uses {
            while let Some(wait) = account.debt(now) {
                now += wait.max(Duration::from_nanos(1));
            }
            account.charge(used * MILLISECOND);
        }
        let allowed = (now - start).as_nanos() as u64 / 2 + 50 * MILLISECOND + 20 * MILLISECOND;
        prop_assert!(account.used() <= allowed, "{} > {allowed}", account.used());
    }
}
