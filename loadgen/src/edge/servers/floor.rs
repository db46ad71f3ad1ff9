//! The floor: the least that a server for viewers can do, to judge others by. A listener, a thread and a runtime for
//! each core; a task for each viewer that answers with fixed bytes; and a loop that offers the same bytes to every
//! socket. No protocol beyond that, no limits, no state: not a server to use.

use super::super::mqtt::{self, Packet};
use anyhow::Context as _;
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use std::{
    cell::RefCell,
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    rc::Rc,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast::{self, error::RecvError},
    task::{LocalSet, spawn_local},
};

/// Sockets that are written to before others get their turn.
const BURST: usize = 256;

/// Frames that a core may be behind; a slower one skips.
const FRAMES_MAX: usize = 16;

/// The viewers of one core.
type Shard = Rc<RefCell<Vec<Option<Rc<TcpStream>>>>>;

/// Serves until standard input is closed.
pub(crate) fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let (publish, _) = broadcast::channel(FRAMES_MAX);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..cores {
        let listener = listener(listen).with_context(|| format!("cannot listen on {listen}"))?;
        let publish = publish.clone();
        std::thread::spawn(move || shard(listener, publish));
    }
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn listener(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

fn shard(listener: std::net::TcpListener, publish: broadcast::Sender<Bytes>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let frames = publish.subscribe();
    LocalSet::new().block_on(&runtime, async move {
        let shard = Shard::default();
        let buffer = Rc::new(RefCell::new(vec![0; 16 << 10]));
        spawn_local(send(Rc::clone(&shard), frames));
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn_local(viewer(Rc::new(stream), Rc::clone(&shard), Rc::clone(&buffer), publish.clone()));
        }
    })
}

async fn send(shard: Shard, mut frames: broadcast::Receiver<Bytes>) {
    loop {
        let frame = match frames.recv().await {
            Ok(frame) => frame,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let viewers = shard.borrow().len();
        for index in 0..viewers {
            if let Some(Some(stream)) = shard.borrow().get(index) {
                // A socket that is full misses the frame.
                let _ = stream.try_write(&frame);
            }
            if index % BURST == BURST - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn viewer(
    stream: Rc<TcpStream>,
    shard: Shard,
    buffer: Rc<RefCell<Vec<u8>>>,
    publish: broadcast::Sender<Bytes>,
) {
    let mut place = None;
    let mut pending = Vec::new();
    while stream.readable().await.is_ok() {
        let buffer = &mut *buffer.borrow_mut();
        match stream.try_read(buffer) {
            Ok(0) => break,
            Ok(length) => pending.extend(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        let mut used = 0;
        while let Ok(Some((packet, length))) = mqtt::take(&pending[used..]) {
            let _ = match packet {
                Packet::Connect => stream.try_write(&mqtt::CONNACK),
                Packet::Subscribe(id) => {
                    let mut shard = shard.borrow_mut();
                    place.get_or_insert(shard.len());
                    shard.push(Some(Rc::clone(&stream)));
                    stream.try_write(&mqtt::suback(id))
                }
                Packet::Pingreq => stream.try_write(&mqtt::PINGRESP),
                Packet::Publish { .. } => {
                    // It fails when nobody listens, and every core does.
                    let _ = publish.send(Bytes::copy_from_slice(&pending[used..used + length]));
                    Ok(0)
                }
                _ => Ok(0),
            };
            used += length;
        }
        pending.drain(..used);
        if pending.is_empty() {
            pending = Vec::new();
        }
    }
    if let Some(place) = place {
        shard.borrow_mut()[place] = None;
    }
}
