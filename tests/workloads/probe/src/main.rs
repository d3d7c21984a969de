//! A command that tries what it is told to and prints how it went, one line each: what a guest sees of its pod.
//!
//! `env NAME`, `args`, `cwd`, `read PATH`, `write PATH TEXT`, `resolve NAME` (prints all its addresses), `bind
//! ADDRESS:PORT` (prints where it is bound), `connect ADDRESS:PORT` (prints what it reads), `fetch AUTHORITY PATH` (prints
//! status and body).

use std::{env, net::SocketAddrV4};

use wasip2::{
    cli::environment,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, ErrorCode as FileError, OpenFlags, PathFlags},
    },
    http::{
        outgoing_handler,
        types::{Fields, OutgoingRequest, Scheme},
    },
    io::streams::{InputStream, StreamError},
    sockets::{
        instance_network::instance_network,
        ip_name_lookup,
        network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress},
        tcp::TcpSocket,
        tcp_create_socket::create_tcp_socket,
    },
};

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let outcome = match *words {
        ["env", name] => env::var(name).map_err(|error| error.to_string()),
        ["args", ..] => Ok(words.join(" ")),
        ["cwd"] => environment::initial_cwd().ok_or_else(|| "none".to_owned()),
        ["read", path] => read_file(path).map_err(|code| code.name().to_owned()),
        ["write", path, text] => write_file(path, text).map_err(|code| code.name().to_owned()),
        ["resolve", name] => resolve(name),
        ["bind", address] => bind(address).map_err(|code| code.name().to_owned()),
        ["connect", address] => connect(address).map_err(|code| code.name().to_owned()),
        ["hoard", address] => hoard(address),
        ["fetch", authority, path] => fetch(authority, path),
        _ => Err("unknown command".to_owned()),
    };
    match outcome {
        Ok(text) => println!("ok {text}"),
        Err(text) => println!("failed {text}"),
    }
}

/// Opens a file in whichever directory of the pod holds it.
fn open(path: &str, create: OpenFlags, access: DescriptorFlags) -> Result<Descriptor, FileError> {
    let directories = get_directories();
    let found = directories.iter().find_map(|(directory, prefix)| Some((directory, path.strip_prefix(prefix.as_str())?)));
    let (directory, rest) = found.ok_or(FileError::NoEntry)?;
    directory.open_at(PathFlags::empty(), rest.trim_start_matches('/'), create, access)
}

fn read_file(path: &str) -> Result<String, FileError> {
    let (bytes, _end) = open(path, OpenFlags::empty(), DescriptorFlags::READ)?.read(1 << 20, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write_file(path: &str, text: &str) -> Result<String, FileError> {
    open(path, OpenFlags::CREATE, DescriptorFlags::WRITE)?.write(text.as_bytes(), 0)?;
    Ok("written".to_owned())
}

fn resolve(name: &str) -> Result<String, String> {
    let failed = |code: ErrorCode| code.name().to_owned();
    let stream = ip_name_lookup::resolve_addresses(&instance_network(), name).map_err(failed)?;
    stream.subscribe().block();
    let mut found = Vec::new();
    while let Some(address) = stream.resolve_next_address().map_err(failed)? {
        found.push(match address {
            IpAddress::Ipv4((a, b, c, d)) => format!("{a}.{b}.{c}.{d}"),
            other => return Err(format!("{other:?}")),
        });
    }
    found.sort();
    Ok(found.join(" "))
}

fn wit(address: &str) -> IpSocketAddress {
    let address: SocketAddrV4 = address.parse().expect("an address");
    let [a, b, c, d] = address.ip().octets();
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) })
}

fn text(address: IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) => format!("{a}.{b}.{c}.{d}:{port}"),
        IpSocketAddress::Ipv6(address) => format!("{address:?}"),
    }
}

fn socket() -> Result<TcpSocket, ErrorCode> {
    create_tcp_socket(IpAddressFamily::Ipv4)
}

fn bind(address: &str) -> Result<String, ErrorCode> {
    let socket = socket()?;
    socket.start_bind(&instance_network(), wit(address))?;
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.finish_listen()?;
    socket.local_address().map(text)
}

fn connect(address: &str) -> Result<String, ErrorCode> {
    let socket = socket()?;
    socket.start_connect(&instance_network(), wit(address))?;
    let (input, _output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            other => break other?,
        }
    };
    Ok(read(&input))
}

/// Opens connections and keeps them, as many as it gets, for ever.
fn hoard(address: &str) -> ! {
    let mut held = Vec::new();
    loop {
        let Ok(socket) = socket() else { continue };
        let _ = socket.start_connect(&instance_network(), wit(address)); // it may well be refused
        held.push(socket);
    }
}

fn fetch(authority: &str, path: &str) -> Result<String, String> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let response = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    response.subscribe().block();
    let response = response.get().expect("ready").expect("taken once").map_err(|code| format!("{code:?}"))?;
    let body = response.consume().expect("taken once");
    let input = body.stream().expect("taken once");
    Ok(format!("{} {}", response.status(), read(&input)))
}

fn read(input: &InputStream) -> String {
    let mut bytes = Vec::new();
    loop {
        match input.blocking_read(4096) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => return String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(StreamError::LastOperationFailed(error)) => return error.to_debug_string(),
        }
    }
}
