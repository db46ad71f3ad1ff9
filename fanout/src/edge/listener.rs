//! The sockets on which MQTT viewers arrive: one a shard, all on the same port, among which the kernel spreads them.

use crate::{Config, Error};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    time::Duration,
};

/// Connections that may wait to be accepted; the kernel's own limit is often lower (net.core.somaxconn).
const BACKLOG: i32 = 4_096;
/// After this the kernel begins to ask a silent peer whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Binds `count` listeners, and tells where.
pub(super) fn bind(config: &Config, count: usize) -> Result<(SocketAddr, Vec<TcpListener>), Error> {
    let listen = &config.mqtt.listen;
    let address: SocketAddr =
        listen.parse().map_err(|_| Error::Edge(format!("fanout.mqtt.listen is no address: {listen}")))?;
    let taken = |error| Error::listen("fanout.mqtt.listen", address, &error);
    // A port can be shared by processes of the same user, so that nobody would notice that it is taken.
    let free = TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(taken)?;
    let listeners = (0..count).map(|_| bind_one(free, config)).collect::<io::Result<_>>().map_err(taken)?;
    Ok((free, listeners))
}

fn bind_one(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Those that are accepted inherit it.
    tune(&socket, config)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds what the kernel keeps for a viewer, and for how long. Connections inherit it from their listener: the one over
/// which [`crate::Fanout::router`] is served needs it for server-sent events that HTTP keeps.
pub fn tune(socket: &impl AsFd, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    socket.set_tcp_notsent_lowat(config.unsent_bytes)?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(config.write_timeout_ms)))?;
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))
}
