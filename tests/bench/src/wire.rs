//! HTTP/1.1 requests, sent and read with as little work as can be: client and servers share the machine's cores, and it is
//! the servers that are measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::figures::{Durations, print};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: hello\r\n\r\n";

/// Sends requests from `clients` connections for `seconds`, each as soon as the one before is answered.
pub(crate) async fn load(address: SocketAddr, clients: usize, seconds: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(address, end));
    }
    let mut all = Durations::default();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    print(format!("count={} rate_per_s={rate:.0} {}", all.len(), all.summary()));
    Ok(())
}

async fn client(address: SocketAddr, end: Instant) -> anyhow::Result<Durations> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut durations = Durations::default();
    let mut received = Vec::with_capacity(4096);
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(durations);
        }
        stream.write_all(REQUEST).await?;
        received.clear();
        while !is_whole(&received)? {
            if stream.read_buf(&mut received).await? == 0 {
                bail!("the server closes the connection");
            }
        }
        durations.push(start.elapsed());
    }
}

/// Whether this is all of an answer; an error for one that is not a success.
fn is_whole(received: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = received.split_at(end + 4);
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        bail!("the server answers {}", head.lines().next().unwrap_or_default());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    if let Some(length) = length {
        return Ok(body.len() >= length.trim().parse()?);
    }
    head.contains("transfer-encoding: chunked")
        .then(|| body.ends_with(b"\r\n0\r\n\r\n") || body == b"0\r\n\r\n")
        .context("an answer without a length")
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let cases: [(&str, Option<bool>); 7] = [
            ("HTTP/1.1 200 OK\r\nContent-Le", Some(false)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", Some(false)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(true)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
                Some(false),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Some(true),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(is_whole(text.as_bytes()).ok(), wanted, "{text:?}");
        }
    }
}
