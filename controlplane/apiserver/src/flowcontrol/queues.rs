//! Fair queuing of one priority level: pure, with time passed in.
//!
//! Each queue has a virtual start time, and the request is next that would finish first if all queues were served at once,
//! a bit each (Kubernetes' KEP-1040). Time is in nanoseconds, work and virtual time in nanoseconds of one seat. What holds
//! for queues holds for flows as far as flows have queues of their own ([`Hand`]).

use std::collections::VecDeque;

use super::demand::Demand;
use super::shuffle::Hand;

/// What a request is expected to take before that is known.
const GUESS: u128 = 3_000_000;

/// What a request takes: seats while it is served, and seats for a while after, when it has changed something that many
/// watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) seats: u32,
    pub(super) final_seats: u32,
    /// Nanoseconds.
    pub(super) lingers: u64,
}

impl Work {
    pub(super) fn seats(seats: u32) -> Self {
        Work {
            seats,
            final_seats: 0,
            lingers: 0,
        }
    }

    /// What it holds at once.
    pub(super) fn most(&self) -> u32 {
        self.seats.max(self.final_seats)
    }

    fn total(&self) -> u128 {
        u128::from(self.seats) * GUESS + u128::from(self.final_seats) * u128::from(self.lingers)
    }
}

/// How a level queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queuing {
    /// Nobody waits.
    Exempt,
    /// Nobody waits, but some are refused.
    Reject,
    Queue {
        queues: u32,
        hand: u32,
        length: u32,
    },
}

/// Leave to be served; to be given back by [`Queues::finish`].
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) work: Work,
    queue: Option<usize>,
    began: u64,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Start {
    Serve(Ticket),
    /// It waits under this number.
    Wait(u64),
    Refuse(&'static str),
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    work: Work,
    arrived: u128,
    who: T,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Sum of the waiting ones' work.
    work: u128,
    executing: u32,
    seats: u32,
    /// The virtual time at which its next request starts.
    start: u128,
}

impl<T> Queue<T> {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// It does not start before its oldest request has come: being idle earns nothing.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.start = self.start.max(oldest.arrived);
        }
    }
}

/// The queues of a level, of requests that are told through `T`.
#[derive(Debug)]
pub(super) struct Queues<T> {
    queuing: Queuing,
    /// Seats.
    limit: u32,
    queues: Vec<Queue<T>>,
    /// Virtual time.
    now: u128,
    real: u64,
    active: u32,
    waiting: u32,
    waiting_seats: u32,
    executing: u32,
    seats: u32,
    robin: usize,
    entered: u64,
    pub(super) demand: Demand,
    pub(super) counts: Counts,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) dispatched: u64,
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
    pub(super) cancelled: u64,
}

/// One queue as it is, for those who look at it.
pub(super) struct View<'a, T> {
    pub(super) executing: u32,
    pub(super) seats: u32,
    pub(super) start: u128,
    pub(super) waiting: Vec<(&'a T, Work)>,
    pub(super) work: u128,
}

impl<T> Queues<T> {
    pub(super) fn new(queuing: Queuing, limit: u32, real: u64) -> Self {
        let mut queues = Queues {
            queuing,
            limit,
            queues: Vec::new(),
            now: 0,
            real,
            active: 0,
            waiting: 0,
            waiting_seats: 0,
            executing: 0,
            seats: 0,
            robin: 0,
            entered: 0,
            demand: Demand::new(real),
            counts: Counts::default(),
        };
        queues.resize();
        queues
    }

    /// Queues otherwise from now on; gives those whose turn has come by that.
    pub(super) fn configure(&mut self, queuing: Queuing, limit: u32, real: u64) -> Vec<(T, Ticket)> {
        self.pass(real);
        (self.queuing, self.limit) = (queuing, limit);
        self.resize();
        self.dispatch(real)
    }

    fn resize(&mut self) {
        let wanted = match self.queuing {
            Queuing::Queue { queues, .. } => queues as usize,
            Queuing::Exempt | Queuing::Reject => 0,
        };
        while self.queues.len() > wanted && self.queues.last().is_some_and(|last| !last.is_active()) {
            self.queues.pop();
        }
        while self.queues.len() < wanted {
            self.queues.push(Queue {
                waiting: VecDeque::new(),
                work: 0,
                executing: 0,
                seats: 0,
                start: 0,
            });
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0
    }

    /// Requests that wait and that are served, and the seats of both.
    pub(super) fn load(&self) -> [u32; 4] {
        [self.waiting, self.executing, self.waiting_seats, self.seats]
    }

    pub(super) fn views(&self) -> impl Iterator<Item = View<'_, T>> {
        self.queues.iter().map(|queue| View {
            executing: queue.executing,
            seats: queue.seats,
            start: queue.start,
            waiting: queue
                .waiting
                .iter()
                .map(|waiting| (&waiting.who, waiting.work))
                .collect(),
            work: queue.work,
        })
    }

    /// Lets virtual time go on: as fast as each active queue is served.
    fn pass(&mut self, real: u64) {
        let passed = real.saturating_sub(self.real);
        self.real = self.real.max(real);
        if self.active > 0 {
            let served = (self.seats + self.waiting_seats).min(self.limit);
            self.now += u128::from(passed) * u128::from(served) / u128::from(self.active);
        }
    }

    fn note(&mut self, real: u64) {
        self.demand.set(self.seats + self.waiting_seats, real);
    }

    fn has_room(&self, seats: u32) -> bool {
        match self.queuing {
            Queuing::Exempt => true,
            // What is wider than the level is served alone.
            _ if seats > self.limit => self.executing == 0,
            _ => self.seats + seats <= self.limit,
        }
    }

    /// A request of a flow has come; `who` is told when its turn comes later.
    pub(super) fn start(&mut self, work: Work, flow: u64, real: u64, who: impl FnOnce() -> T) -> Start {
        self.pass(real);
        let Queuing::Queue { queues, hand, length } = self.queuing else {
            return self.start_without_queue(work, real);
        };
        let nth = self.choose(&Hand::deal(flow, queues, hand as usize));
        let full = self.seats >= self.limit;
        let Some(queue) = self.queues.get_mut(nth) else {
            return Start::Refuse("queue-full");
        };
        if (full || self.waiting > 0) && queue.waiting.len() >= length as usize {
            self.counts.rejected += 1;
            return Start::Refuse("queue-full");
        }
        if !queue.is_active() {
            queue.start = self.now;
            self.active += 1;
        }
        if self.waiting == 0 && self.has_room(work.most()) {
            // Nobody is before it.
            return Start::Serve(self.serve(work, nth, real));
        }
        let number = self.entered;
        if let Some(queue) = self.queues.get_mut(nth) {
            queue.work += work.total();
            queue.waiting.push_back(Waiting {
                number,
                work,
                arrived: self.now,
                who: who(),
            });
            queue.bound();
        }
        self.waiting += 1;
        self.waiting_seats += work.most();
        self.note(real);
        Start::Wait(number)
    }

    fn start_without_queue(&mut self, work: Work, real: u64) -> Start {
        if !self.has_room(work.most()) {
            self.counts.rejected += 1;
            return Start::Refuse("concurrency-limit");
        }
        self.executing += 1;
        self.seats += work.most();
        self.counts.dispatched += 1;
        self.note(real);
        Start::Serve(Ticket {
            work,
            queue: None,
            began: real,
        })
    }

    /// The queue of a hand with the least work before it; among equals they take turns.
    fn choose(&mut self, hand: &Hand) -> usize {
        let cards = hand.cards();
        let first = (self.entered % cards.len().max(1) as u64) as usize;
        self.entered += 1;
        let turned = cards
            .iter()
            .cycle()
            .skip(first)
            .take(cards.len())
            .map(|card| *card as usize);
        turned
            .min_by_key(|nth| self.queues.get(*nth).map_or(u128::MAX, |queue| queue.work))
            .unwrap_or_default()
    }

    fn serve(&mut self, work: Work, nth: usize, real: u64) -> Ticket {
        self.executing += 1;
        self.seats += work.most();
        self.counts.dispatched += 1;
        if let Some(queue) = self.queues.get_mut(nth) {
            queue.executing += 1;
            queue.seats += work.most();
            queue.start += work.total();
            queue.bound();
        }
        self.note(real);
        Ticket {
            work,
            queue: Some(nth),
            began: real,
        }
    }

    /// Those whose turn it is.
    fn dispatch(&mut self, real: u64) -> Vec<(T, Ticket)> {
        let mut served = Vec::new();
        while self.waiting > 0 && self.seats < self.limit {
            let Some(nth) = self.next() else { break };
            let Some(queue) = self.queues.get_mut(nth) else { break };
            let room = queue.waiting.front().map(|oldest| oldest.work.most());
            if !room.is_some_and(|seats| self.has_room(seats)) {
                break;
            }
            let Some(oldest) = self.queues.get_mut(nth).and_then(|queue| {
                let oldest = queue.waiting.pop_front()?;
                queue.work -= oldest.work.total();
                Some(oldest)
            }) else {
                break;
            };
            self.robin = nth;
            self.waiting -= 1;
            self.waiting_seats -= oldest.work.most();
            let ticket = self.serve(oldest.work, nth, real);
            served.push((oldest.who, ticket));
        }
        served
    }

    /// The queue whose oldest request would finish first; among equals the next in turn.
    fn next(&self) -> Option<usize> {
        let count = self.queues.len();
        let turn = (1..=count).map(|step| (self.robin + step) % count);
        let finish = |nth: &usize| {
            let queue = self.queues.get(*nth)?;
            Some(queue.start + queue.waiting.front()?.work.total())
        };
        turn.filter_map(|nth| Some((finish(&nth)?, nth)))
            .min_by_key(|(at, _)| *at)
            .map(|(_, nth)| nth)
    }

    /// A request has been served. What it lingers on is given back by [`Queues::release`]; without lingering that is now.
    pub(super) fn finish(&mut self, ticket: &Ticket, real: u64) -> Vec<(T, Ticket)> {
        self.pass(real);
        self.executing = self.executing.saturating_sub(1);
        if let Some(queue) = ticket.queue.and_then(|nth| self.queues.get_mut(nth)) {
            queue.executing -= 1;
            // It was charged for what it was expected to take.
            let took = u128::from(real.saturating_sub(ticket.began));
            let seats = u128::from(ticket.work.seats);
            queue.start = (queue.start + seats * took).saturating_sub(seats * GUESS);
            queue.bound();
            if !queue.is_active() {
                self.active -= 1;
            }
        }
        match ticket.work.lingers {
            0 => self.release(ticket, real),
            _ => self.dispatch(real),
        }
    }

    /// Gives seats back.
    pub(super) fn release(&mut self, ticket: &Ticket, real: u64) -> Vec<(T, Ticket)> {
        self.pass(real);
        self.seats -= ticket.work.most().min(self.seats);
        if let Some(queue) = ticket.queue.and_then(|nth| self.queues.get_mut(nth)) {
            queue.seats -= ticket.work.most().min(queue.seats);
        }
        self.note(real);
        self.resize();
        self.dispatch(real)
    }

    /// A request that waits gives up; tells whether it did wait still.
    pub(super) fn leave(&mut self, number: u64, late: bool, real: u64) -> bool {
        self.pass(real);
        let place = self.queues.iter_mut().enumerate().find_map(|(nth, queue)| {
            let at = queue.waiting.iter().position(|waiting| waiting.number == number)?;
            let gone = queue.waiting.remove(at)?;
            queue.work -= gone.work.total();
            queue.bound();
            Some((nth, gone.work))
        });
        let Some((nth, work)) = place else { return false };
        if self.queues.get(nth).is_some_and(|queue| !queue.is_active()) {
            self.active -= 1;
        }
        self.waiting -= 1;
        self.waiting_seats -= work.most();
        self.counts.rejected += 1;
        match late {
            true => self.counts.timed_out += 1,
            false => self.counts.cancelled += 1,
        }
        self.note(real);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn queues(hand: u32, limit: u32) -> Queues<&'static str> {
        let queuing = Queuing::Queue {
            queues: 64,
            hand,
            length: 1000,
        };
        Queues::new(queuing, limit, 0)
    }

    /// How many others are served before the quiet flow's request, which comes last.
    fn before_the_quiet(noisy: u64, quiet: u64, hand: u32, limit: u32) -> usize {
        let mut queues = queues(hand, limit);
        let mut open = VecDeque::new();
        for _ in 0..1000 {
            if let Start::Serve(ticket) = queues.start(Work::seats(1), noisy, 0, || "noisy") {
                open.push_back(ticket);
            }
        }
        assert!(matches!(
            queues.start(Work::seats(1), quiet, MS, || "quiet"),
            Start::Wait(_)
        ));
        let (mut real, mut served) = (MS, 0);
        loop {
            real += 5 * MS;
            let ticket = open.pop_front().expect("the level is busy");
            for (who, ticket) in queues.finish(&ticket, real) {
                if who == "quiet" {
                    return served;
                }
                served += 1;
                open.push_back(ticket);
            }
        }
    }

    proptest! {
        #[test]
        fn a_noisy_flow_moves_a_quiet_one_by_a_hand_at_most(noisy: u64, quiet: u64, limit in 1u32..20) {
            let hand = 6;
            let (a, b) = (Hand::deal(noisy, 64, 6), Hand::deal(quiet, 64, 6));
            // Two flows with the same hand are one flow.
            prop_assume!(b.cards().iter().any(|card| !a.cards().contains(card)));
            prop_assert!(before_the_quiet(noisy, quiet, hand, limit) <= hand as usize);
        }

        #[test]
        fn exempt_never_waits(works in proptest::collection::vec(1u32..100, 1..500)) {
            let mut queues = Queues::<()>::new(Queuing::Exempt, 1, 0);
            for seats in works {
                prop_assert!(matches!(queues.start(Work::seats(seats), 0, 0, || ()), Start::Serve(_)));
            }
        }

        /// Whatever happens, seats are neither lost nor made, and the limit holds.
        #[test]
        fn seats_add_up(steps in proptest::collection::vec((0u8..4, any::<u64>(), 1u32..4), 1..400)) {
            let limit = 8;
            let mut queues = queues(4, limit);
            let (mut open, mut lingering, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
            let mut real = 0;
            for (step, random, seats) in steps {
                real += random % (10 * MS);
                let pick = |count: usize| (random as usize) % count.max(1);
                let served = match step {
                    0 | 1 => {
                        let work = Work { seats, final_seats: seats, lingers: u64::from(step) };
                        match queues.start(work, random, real, || "x") {
                            Start::Serve(ticket) => open.push(ticket),
                            Start::Wait(number) => waiting.push(number),
                            Start::Refuse(_) => {}
                        }
                        Vec::new()
                    }
                    2 if !open.is_empty() => {
                        let ticket: Ticket = open.swap_remove(pick(open.len()));
                        let served = queues.finish(&ticket, real);
                        if ticket.work.lingers > 0 {
                            lingering.push(ticket);
                        }
                        served
                    }
                    _ if !lingering.is_empty() => {
                        let ticket = lingering.swap_remove(pick(lingering.len()));
                        queues.release(&ticket, real)
                    }
                    _ => {
                        if !waiting.is_empty() {
                            queues.leave(waiting.swap_remove(pick(waiting.len())), false, real);
                        }
                        Vec::new()
                    }
                };
                open.extend(served.into_iter().map(|(_, ticket)| ticket));
                let held: u32 = open.iter().chain(&lingering).map(|ticket| ticket.work.most()).sum();
                let [_, executing, _, in_use] = queues.load();
                prop_assert_eq!(in_use, held);
                prop_assert_eq!(executing as usize, open.len());
                prop_assert!(in_use <= limit);
            }
        }
    }

    #[test]
    fn a_full_queue_refuses_and_one_that_leaves_makes_room() {
        let queuing = Queuing::Queue {
            queues: 1,
            hand: 1,
            length: 1,
        };
        let mut queues = Queues::new(queuing, 1, 0);
        let start = |queues: &mut Queues<()>| queues.start(Work::seats(1), 0, 0, || ());
        assert!(matches!(start(&mut queues), Start::Serve(_)));
        let Start::Wait(number) = start(&mut queues) else {
            panic!("it waits")
        };
        assert!(matches!(start(&mut queues), Start::Refuse("queue-full")));
        assert!(queues.leave(number, true, 0));
        assert!(!queues.leave(number, true, 0));
        assert!(matches!(start(&mut queues), Start::Wait(_)));
        assert_eq!((queues.counts.rejected, queues.counts.timed_out), (2, 1));
    }

    #[test]
    fn without_queues_the_limit_refuses() {
        let mut queues = Queues::<()>::new(Queuing::Reject, 2, 0);
        let Start::Serve(ticket) = queues.start(Work::seats(2), 0, 0, || ()) else {
            panic!("it is served")
        };
        assert!(matches!(
            queues.start(Work::seats(1), 0, 0, || ()),
            Start::Refuse("concurrency-limit")
        ));
        queues.finish(&ticket, MS);
        // What is too wide for the level is served alone.
        assert!(matches!(queues.start(Work::seats(9), 0, MS, || ()), Start::Serve(_)));
    }
}
