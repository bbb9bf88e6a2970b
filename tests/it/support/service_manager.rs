//! Service manager of a test: it receives notifications of the main process as systemd does, and stores descriptors until they
//! are removed.

use super::eventually;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// The name of the socket that links a process to the service manager.
const LINK: &str = "moongate-handover";

/// What it has received.
#[derive(Default)]
struct Received {
    /// The process whose messages count; `None` until the first one of a process that was just started.
    main: Option<u32>,
    messages: Vec<String>,
    stored: Vec<(String, OwnedFd)>,
}

/// A service manager that stores descriptors.
pub(crate) struct ServiceManager {
    path: String,
    received: Arc<Mutex<Received>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// The last message, to this test alone.
const END: &[u8] = b"X_TEST_END=1";

impl ServiceManager {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        let received = Arc::<Mutex<Received>>::default();
        let own = Arc::clone(&received);
        let thread = std::thread::spawn(move || {
            loop {
                let (text, sender, descriptors) = receive(&socket);
                if text.as_bytes() == END {
                    return;
                }
                own.lock().unwrap().handle(text, sender, descriptors);
            }
        });
        Self { path: path.display().to_string(), received, thread: Some(thread), _folder: folder }
    }

    /// The environment of a process that it starts: the main one.
    pub(crate) fn variables(&self) -> [(&str, &str); 2] {
        self.received.lock().unwrap().main = None;
        [("NOTIFY_SOCKET", &self.path), ("FDSTORE", "64")]
    }

    /// A copy of the stored socket at this address.
    pub(crate) fn stored_at(&self, address: SocketAddr) -> OwnedFd {
        let is_there = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        eventually(&format!("{address} is stored"), || {
            let received = self.received.lock().unwrap();
            let copies = received.stored.iter().map(|(_, socket)| TcpListener::from(copy(socket)));
            copies.into_iter().find(is_there).map(OwnedFd::from)
        })
    }

    /// A copy of the stored link, if there is one.
    pub(crate) fn link(&self) -> Option<OwnedFd> {
        let received = self.received.lock().unwrap();
        received.stored.iter().find(|(name, _)| name == LINK).map(|(_, link)| copy(link))
    }

    /// Closes what is stored, as for a service that has stopped.
    pub(crate) fn release(&self) {
        self.received.lock().unwrap().stored.clear();
    }

    /// The messages that contain a text.
    pub(crate) fn messages_with(&self, text: &str) -> usize {
        self.received.lock().unwrap().messages.iter().filter(|message| message.contains(text)).count()
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(END, &self.path));
        if let (Ok(_), Some(thread)) = (sent, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Received {
    fn handle(&mut self, text: String, sender: u32, descriptors: Vec<OwnedFd>) {
        // As with `NotifyAccess=main`, the default of units of `Type=notify`.
        if *self.main.get_or_insert(sender) != sender {
            return;
        }
        if let Some(pid) = text.lines().find_map(|line| line.strip_prefix("MAINPID=")) {
            self.main = pid.parse().ok();
        }
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        if text.contains("FDSTOREREMOVE=1") {
            self.stored.retain(|(stored, _)| *stored != name);
        } else if text.contains("FDSTORE=1") {
            self.stored.extend(descriptors.into_iter().map(|one| (name.clone(), one)));
        }
        self.messages.push(text);
    }
}

fn copy(socket: &OwnedFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

/// A message with its sender and its descriptors.
fn receive(socket: &UnixDatagram) -> (String, u32, Vec<OwnedFd>) {
    let (mut bytes, mut space) = (
        [0; 4096],
        [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253), ScmCredentials(1))],
    );
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let (mut sender, mut descriptors) = (0, Vec::new());
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(some) => descriptors.extend(some),
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = credentials.pid.as_raw_nonzero().get().unsigned_abs();
            }
            _ => {}
        }
    }
    (String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), sender, descriptors)
}
