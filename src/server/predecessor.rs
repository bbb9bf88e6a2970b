//! The process that started this one: what it passes after this one serves, and whether this one stays without it.

use super::handover::{OldProcess, Succession};
use super::process_sockets::ProcessSockets;
use super::request_sender::RequestSender;
use super::service_manager::notify;
use super::signal_request::Ask;
use super::stored_link::{self, ReceivedLink};
use log::{error, info};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

/// The longest time for which a process that serves during a restart waits for the next one after the old one has ended: that
/// of the unit for a start.
const LONGEST_RESTART: Duration = Duration::from_secs(180);

/// The process that started this one for a handover.
pub(super) struct Predecessor {
    pub(super) process: Arc<OldProcess>,
    /// How long this process serves.
    pub(super) succession: Succession,
    /// To the service manager, if there is one.
    pub(super) link: Option<ReceivedLink>,
}

/// Asks the process to leave when it is dropped, also by a panic.
struct LeaveGuard {
    requests: RequestSender,
    leaves: bool,
}

impl LeaveGuard {
    fn arm(&mut self) {
        self.leaves = true;
    }
}

impl Drop for LeaveGuard {
    fn drop(&mut self) {
        if self.leaves {
            self.requests.ask(Ask::Leave);
        }
    }
}

impl Predecessor {
    /// Takes over WebSockets, on a thread, until the old process ends. This process leaves then if it serves only during a
    /// restart, or if the link says that the service has another main process.
    pub(super) fn adopt(self, sockets: &Arc<ProcessSockets>, requests: RequestSender) {
        let Self { process, succession, mut link } = self;
        let (sockets, channel) = (Arc::clone(sockets), Arc::clone(&process));
        let mut guard = LeaveGuard { requests, leaves: succession == Succession::UntilRestart };
        let adopt = move || {
            let become_main = || {
                notify(&[NotifyState::Ready]);
                stored_link::remove();
                sockets.store();
            };
            let is_main = channel.adopt_websockets(|adoptions| sockets.adopt(adoptions), become_main);
            let limit = match succession {
                Succession::Permanent if is_main || link.is_none() => return,
                // If this process is the main one all the same, the link lasts as long as the service.
                Succession::Permanent => {
                    sockets.become_temporary();
                    guard.arm();
                    None
                }
                Succession::UntilRestart => {
                    // Its connections would be served by this process and by the next one.
                    sockets.leave_admin();
                    Some(LONGEST_RESTART)
                }
            };
            info!("old process ended; serving until the next process of the service does");
            if let Some(link) = &mut link {
                link.wait(limit);
            }
            sockets.leave_admin();
        };
        let started = std::thread::Builder::new().name("adoption".to_owned()).spawn(adopt);
        if let Err(error) = started {
            error!(error:%; "no thread for the WebSockets of the old process");
            process.close();
        }
    }
}
