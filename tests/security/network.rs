//! Network: a container has an empty network namespace of its own.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::*;
use crate::common::builder;

/// A program that connects to a target and prints `works` or the name of the errno.
fn connect(target: &str) -> Command {
    python(&format!(
        "import errno, socket
family, address = {target}
try: socket.socket(family).connect(address); print('connect works')
except OSError as error: print('connect', errno.errorcode[error.errno])"
    ))
}

#[tokio::test]
async fn the_hosts_loopback_and_other_networks_are_out_of_reach() {
    let container = container().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "8.8.8.8"] {
        let target = format!("socket.AF_INET, ('{address}', {port})");
        assert_eq!(says(&container, &connect(&target)).await, "connect ENETUNREACH", "{address}");
    }
    let mut control = TcpStream::connect(("127.0.0.1", port)).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(control.read(&mut [0]).unwrap(), 0);

    let listener = TcpListener::bind("[::1]:0");
    let port = listener.as_ref().map_or(port, |listener| listener.local_addr().unwrap().port());
    let mut expected = vec!["connect ENETUNREACH", "connect EADDRNOTAVAIL", "connect EINVAL"];
    match &listener {
        Ok(_) => drop(TcpStream::connect(("::1", port)).expect("the control")),
        Err(error) => {
            lacks(&format!("a loopback with IPv6: {error}"));
            expected.push("connect EAFNOSUPPORT");
        }
    }
    for address in ["::1", "fe80::1", "2001:db8::1"] {
        let said = says(&container, &connect(&format!("socket.AF_INET6, ('{address}', {port})"))).await;
        assert!(expected.contains(&&*said), "{address}: {said}");
    }
}

#[tokio::test]
async fn the_hosts_abstract_sockets_are_out_of_reach() {
    let container = container().await;
    let name = format!("cellblock-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let said = says(&container, &connect(&format!("socket.AF_UNIX, '\\0{name}'"))).await;
    assert_eq!(said, "connect ECONNREFUSED");
    UnixStream::connect_addr(&address).expect("the control");
}

#[tokio::test]
async fn containers_do_not_share_socket_names() {
    let (one, other) = (container().await, container().await);
    let listen = python(
        "import socket, time\nit = socket.socket(socket.AF_UNIX); it.bind('\\0name'); it.listen()\nprint('ready', flush=True); time.sleep(60)",
    );
    let mut listener = one.spawn(listen.clone().stdout(cellblock::Stdio::piped())).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(listener.stdout.as_mut().unwrap(), &mut [0; 6]).await.unwrap();
    assert_eq!(says(&other, &connect("socket.AF_UNIX, '\\0name'")).await, "connect ECONNREFUSED");
    listener.kill().await.unwrap();
    let control = python(
        "import socket
it = socket.socket(socket.AF_UNIX); it.bind('\\0name'); it.listen()
socket.socket(socket.AF_UNIX).connect('\\0name'); print('works')",
    );
    assert_eq!(says(&one, &control).await, "works", "the name is free again");
}

#[tokio::test]
async fn the_loopback_is_down_by_default() {
    let container = container().await;
    let look = python(
        "import socket, fcntl, struct
it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags, = struct.unpack('16xH14x', fcntl.ioctl(it, 0x8913, struct.pack('16s16x', b'lo')))
def up():
    try: fcntl.ioctl(it, 0x8914, struct.pack('16sH14x', b'lo', 1))
    except PermissionError: return False
    return True
print(flags & 1, up(), [line.split(':')[0].strip() for line in open('/proc/self/net/dev').readlines()[2:]])",
    );
    let said = says(&container, &look).await;
    // Some kernels make a tunnel in every new network namespace.
    assert!(said.starts_with("0 False ['") && said.contains("'lo'") && !said.contains("eth"), "{said}");
}

#[tokio::test]
async fn a_requested_loopback_is_up_and_a_reset_removes_its_connections() {
    let container = builder().loopback(true).build().await.unwrap();
    // The side that closes first keeps the address for a minute.
    let talk = "import socket, sys
listener = socket.socket(); listener.bind(('127.0.0.1', 7777)); listener.listen()
client = socket.create_connection(('127.0.0.1', 7777)); server, _ = listener.accept()
client.send(b'hello'); assert server.recv(9) == b'hello'
server.close(); assert client.recv(1) == b''; client.close()
print(open('/proc/self/net/tcp').read().count('\\n'))";
    let quiet = "print(open('/proc/self/net/tcp').read().count('\\n'))";
    assert_eq!(
        says(&container, &python(talk)).await,
        "3",
        "a header line, the listener, and the remains of a connection"
    );
    assert_eq!(says(&container, &python(quiet)).await, "2", "the control: without a reset the remains stay");
    for _ in 0..3 {
        container.reset().await.unwrap();
        assert_eq!(says(&container, &python(quiet)).await, "1");
        assert_eq!(says(&container, &python(talk)).await, "3");
    }
    let out = python(
        "import socket
it = socket.socket(); it.settimeout(1)
try: it.connect(('169.254.169.254', 80)); print('works')
except OSError as error: print(error.strerror)",
    );
    assert_eq!(says(&container, &out).await, "Network is unreachable");
}
