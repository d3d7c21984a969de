//! Which endpoint a client is led to. Pure: clients and times in, endpoints out.
//!
//! Endpoints take turns, so that a few connections are spread evenly. With session affinity a client keeps its endpoint
//! until it has been away for the Service's time-out, or the endpoint is gone; each connection begins the time anew, as
//! kube-proxy has it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::protocol::Route;

/// Clients whose endpoint is remembered; when there are more, those that are away are forgotten, then anyone.
const MOST_CLIENTS: usize = 65_536;

/// The endpoints of one listener, with whose turn it is.
#[derive(Debug)]
pub(crate) struct Chooser {
    route: Arc<Route>,
    turn: usize,
    /// With the end of each one's time.
    clients: HashMap<IpAddr, (SocketAddr, Duration)>,
}

impl Chooser {
    pub(crate) fn new(route: Route) -> Self {
        Chooser {
            route: Arc::new(route),
            turn: 0,
            clients: HashMap::new(),
        }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// Leads elsewhere from now on. Clients keep endpoints that stay.
    pub(crate) fn change(&mut self, route: Route) {
        match route.affinity {
            None => self.clients.clear(),
            Some(_) => self
                .clients
                .retain(|_, (endpoint, _)| route.endpoints.contains(endpoint)),
        }
        self.route = Arc::new(route);
    }

    /// The endpoints to try for a client, first to last. `now` is on any clock that does not go back.
    pub(crate) fn order(&mut self, client: IpAddr, is_beyond: bool, now: Duration) -> Vec<SocketAddr> {
        let route = Arc::clone(&self.route);
        let all = match &route.beyond {
            Some(beyond) if is_beyond => beyond,
            _ => &route.endpoints,
        };
        let mut order = all.clone();
        if let Some(first) = self.known(client, now)
            && let Some(at) = order.iter().position(|endpoint| *endpoint == first)
        {
            order.rotate_left(at);
            return order;
        }
        if !order.is_empty() {
            let first = self.turn % order.len();
            order.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
        }
        order
    }

    /// A client has reached an endpoint.
    pub(crate) fn reached(&mut self, client: IpAddr, endpoint: SocketAddr, now: Duration) {
        let Some(seconds) = self.route.affinity else { return };
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, (_, until)| *until > now);
            if self.clients.len() >= MOST_CLIENTS {
                let anyone = self.clients.keys().next().copied();
                anyone.map(|anyone| self.clients.remove(&anyone));
            }
        }
        let until = now + Duration::from_secs(seconds.into());
        self.clients.insert(client, (endpoint, until));
    }

    fn known(&self, client: IpAddr, now: Duration) -> Option<SocketAddr> {
        let (endpoint, until) = self.clients.get(&client)?;
        (*until > now).then_some(*endpoint)
    }
}

/// Whether a client is another machine's: neither on the loopback interface nor at the address it called.
pub(crate) fn is_beyond(client: IpAddr, called: IpAddr) -> bool {
    !client.is_loopback() && client != called
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(n: u8) -> SocketAddr {
        ([127, 32, 0, n], 80).into()
    }

    fn client(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn route(endpoints: impl IntoIterator<Item = u8>, affinity: Option<u32>) -> Route {
        Route {
            service: "default/web//tcp".into(),
            endpoints: endpoints.into_iter().map(endpoint).collect(),
            beyond: None,
            affinity,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn endpoints_take_turns_and_each_order_has_them_all() {
        let mut chooser = Chooser::new(route([1, 2, 3], None));
        let mut next = || chooser.order(client(1), true, SECOND);
        assert_eq!(next(), [1, 2, 3].map(endpoint));
        assert_eq!(next(), [2, 3, 1].map(endpoint));
        assert_eq!(next(), [3, 1, 2].map(endpoint));
        assert_eq!(next(), [1, 2, 3].map(endpoint));
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_it_was_away_for_the_time() {
        let mut chooser = Chooser::new(route([1, 2], Some(10)));
        chooser.reached(client(1), endpoint(2), Duration::ZERO);
        for second in [9, 18, 27] {
            assert_eq!(chooser.order(client(1), true, SECOND * second)[0], endpoint(2));
            chooser.reached(client(1), endpoint(2), SECOND * second);
        }
        assert_eq!(chooser.order(client(1), true, SECOND * 37)[0], endpoint(1), "forgotten");
    }

    #[test]
    fn a_client_whose_endpoint_is_gone_gets_another() {
        let mut chooser = Chooser::new(route([1, 2, 3], Some(10)));
        chooser.reached(client(1), endpoint(2), Duration::ZERO);
        chooser.reached(client(2), endpoint(3), Duration::ZERO);
        chooser.change(route([1, 3], Some(10)));
        assert_eq!(chooser.order(client(1), true, SECOND)[0], endpoint(1));
        assert_eq!(chooser.order(client(2), true, SECOND)[0], endpoint(3));
    }

    #[test]
    fn only_clients_beyond_the_machine_are_bound_by_their_policy() {
        let mut chooser = Chooser::new(Route {
            beyond: Some(vec![]),
            ..route([1], None)
        });
        assert!(chooser.order(client(1), true, SECOND).is_empty());
        assert_eq!(chooser.order(client(1), false, SECOND), [endpoint(1)]);
        for (client, called, beyond) in [
            ("127.0.0.1", "127.0.0.1", false),
            ("127.32.0.9", "127.96.0.4", false),
            ("192.0.2.1", "192.0.2.1", false),
            ("192.0.2.2", "192.0.2.1", true),
        ] {
            assert_eq!(
                is_beyond(client.parse().unwrap(), called.parse().unwrap()),
                beyond,
                "{client}"
            );
        }
    }

    #[test]
    fn the_number_of_remembered_clients_is_bounded() {
        let mut chooser = Chooser::new(route([1], Some(10)));
        for n in 0..u32::try_from(MOST_CLIENTS).unwrap() + 10 {
            chooser.reached(IpAddr::from(n.to_be_bytes()), endpoint(1), SECOND);
        }
        assert_eq!(chooser.clients.len(), MOST_CLIENTS);
    }

    proptest! {
        /// Whatever happened before, an order is made of exactly the route's endpoints.
        #[test]
        fn an_order_is_a_rotation(
            steps in prop::collection::vec((0u8..4, 0u8..6, prop::collection::btree_set(1u8..6, 0..5)), 1..40),
        ) {
            let mut chooser = Chooser::new(route([], Some(5)));
            for (second, (who, reached, now)) in steps.into_iter().enumerate() {
                let time = SECOND * u32::try_from(second).unwrap();
                chooser.change(route(now.clone(), Some(5)));
                let mut order = chooser.order(client(who), true, time);
                if let Some(first) = order.first() {
                    chooser.reached(client(who), *first, time);
                    prop_assert_eq!(chooser.order(client(who), true, time)[0], *first);
                } else {
                    chooser.reached(client(who), endpoint(reached), time);
                }
                order.sort();
                prop_assert_eq!(order, now.into_iter().map(endpoint).collect::<Vec<_>>());
            }
        }
    }
}
