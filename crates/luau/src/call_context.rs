//! The context of one call into a script, and its lookup by the script's handles.
//!
//! A script holds numbers, never references: a handle names the call that it was made for. The context of a call is
//! in a thread-local only while the call runs. A handle that outlives its call finds no context and raises an error.

use crate::phase::Phase;
use bytes::Bytes;
use http::StatusCode;
use mlua::{Error, Result, Table};
use moongate_sdk::{Call, Exchange, Message, Piece, Reply, Response};
use scoped_tls_hkt::scoped_thread_local;

/// One call into a script.
pub(crate) struct Scene<'s, 'e, 'a> {
    /// The number of the call; handles of other calls find nothing.
    pub(crate) turn: u64,
    pub(crate) phase: Phase,
    pub(crate) exchange: &'s mut Exchange<'e>,
    pub(crate) subject: Subject<'s, 'a>,
    /// The request's own table, if the script has requested it.
    pub(crate) ctx: Option<Table>,
    pub(crate) outcome: Outcome,
}

/// The subject of the call besides the request.
pub(crate) enum Subject<'s, 'a> {
    Request,
    Answer(&'s mut Response<'a>),
    Piece(&'s mut Piece),
    Message(&'s mut Message),
    /// The response was sent; its status, if there was a response.
    Gone(Option<StatusCode>),
}

/// The script's decision.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Option<Box<Reply>>,
    /// It does not need the request's body.
    pub(crate) skip_body: bool,
    /// It wants this piece again, together with the next.
    pub(crate) held: Option<Bytes>,
    pub(crate) fate: MessageVerdict,
    /// The script's pending HTTP call, and the coroutine that waits for it.
    pub(crate) call: Option<Box<Call>>,
}

/// The verdict on a message.
#[derive(Debug, Default)]
pub(crate) enum MessageVerdict {
    #[default]
    Forward,
    Drop,
    Close(u16, String),
}

/// A scene without its lifetimes, for a place that can name only one lifetime.
pub(crate) trait CallContext {
    fn visit(&mut self, look: &mut dyn FnMut(&mut Scene<'_, '_, '_>));
}

impl CallContext for Scene<'_, '_, '_> {
    fn visit(&mut self, look: &mut dyn FnMut(&mut Scene<'_, '_, '_>)) {
        look(self);
    }
}

scoped_thread_local!(static mut STAGE: for<'s> &'s mut (dyn CallContext + 's));

/// Runs `call` with this scene in the thread-local.
pub(crate) fn play<T>(scene: &mut Scene<'_, '_, '_>, call: impl FnOnce() -> T) -> T {
    STAGE.set(scene, call)
}

/// Passes the scene of the call `turn` to `look`.
///
/// # Errors
/// That call is over.
pub(crate) fn look<T>(turn: u64, look: impl FnOnce(&mut Scene<'_, '_, '_>) -> Result<T>) -> Result<T> {
    let seen = STAGE.is_set().then(|| {
        let (mut look, mut seen) = (Some(look), None);
        STAGE.with(|stage| {
            stage.visit(&mut |scene| {
                if scene.turn == turn
                    && let Some(look) = look.take()
                {
                    seen = Some(look(scene));
                }
            });
        });
        seen
    });
    seen.flatten().unwrap_or_else(|| {
        Err(Error::runtime("this handle is from an earlier call; use the one that the function receives"))
    })
}

/// Passes the scene of the running call to `look`; `None` while the script is loaded.
pub(crate) fn current<T>(look: impl FnOnce(&mut Scene<'_, '_, '_>) -> Result<T>) -> Option<Result<T>> {
    if !STAGE.is_set() {
        return None;
    }
    let (mut look, mut seen) = (Some(look), None);
    STAGE.with(|stage| stage.visit(&mut |scene| seen = look.take().map(|look| look(scene))));
    seen
}
