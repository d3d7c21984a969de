use super::*;

#[tokio::test]
async fn a_client_of_datagrams_keeps_its_endpoint_while_there_is_one() {
    let (mut listeners, at) = (listeners(), address(20));
    let (a, b) = (answers("a ").await, answers("b ").await);
    lead(&mut listeners, key(Protocol::Udp, at), &[a, b]);
    let clients = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    for n in 0..3 {
        assert_eq!(exchange(&clients[0], at, &n.to_string()).await, format!("a {n}"));
        assert_eq!(exchange(&clients[1], at, &n.to_string()).await, format!("b {n}"));
    }
    lead(&mut listeners, key(Protocol::Udp, at), &[b]);
    assert_eq!(exchange(&clients[1], at, "same").await, "b same");
    assert_eq!(exchange(&clients[0], at, "moved").await, "b moved");
}

#[tokio::test]
async fn a_client_whose_endpoint_refuses_goes_to_the_next() {
    let (mut listeners, at) = (listeners(), address(21));
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    lead(&mut listeners, key(Protocol::Udp, at), &[gone, answers("b ").await]);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut datagram = [0; 64];
    let answered = async {
        let mut resent = tokio::time::interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = resent.tick() => drop(client.send_to(b"?", at).await.unwrap()),
                length = client.recv(&mut datagram) => return length.unwrap(),
            }
        }
    };
    let length = tokio::time::timeout(DEADLINE, answered).await.unwrap();
    assert_eq!(&datagram[..length], b"b ?");
}

#[tokio::test]
async fn flows_are_bounded_and_their_places_are_given_back() {
    let mut listeners = Listeners::new(Shared::new(4));
    let at = address(22);
    let key = key(Protocol::Udp, at);
    let (a, b) = (answers("a ").await, answers("b ").await);
    lead(&mut listeners, key, &[a]);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        assert_eq!(exchange(clients.last().unwrap(), at, "1").await, "a 1");
    }
    let late = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    late.send_to(b"lost", at).await.unwrap();
    assert_eq!(exchange(&clients[0], at, "2").await, "a 2");
    lead(&mut listeners, key, &[b]);
    let heard = async {
        let mut datagram = [0; 64];
        let mut resent = tokio::time::interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = resent.tick() => drop(late.send_to(b"3", at).await.unwrap()),
                length = late.recv(&mut datagram) => return datagram[..length.unwrap()].to_vec(),
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, heard).await.unwrap(), b"b 3");
}
