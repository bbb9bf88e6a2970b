//! What a script may see during one call, and how its handles find it.
//!
//! A script holds numbers, never references: a handle names the call it was made for, and what that call
//! may see stands on the thread's stage only while it runs. So a handle that outlives its call finds nothing
//! and says so.

use crate::phase::Phase;
use bytes::Bytes;
use http::StatusCode;
use mlua::{Error, Result, Table};
use moongate_sdk::{Call, Exchange, Message, Piece, Reply, Response};
use scoped_tls_hkt::scoped_thread_local;

/// One call into a script.
pub(crate) struct Scene<'s, 'e, 'a> {
    /// Which call; handles of another find nothing.
    pub(crate) turn: u64,
    pub(crate) phase: Phase,
    pub(crate) exchange: &'s mut Exchange<'e>,
    pub(crate) subject: Subject<'s, 'a>,
    /// The request's own table, once the script has asked for it.
    pub(crate) ctx: Option<Table>,
    pub(crate) outcome: Outcome,
}

/// What the call is about besides the request.
pub(crate) enum Subject<'s, 'a> {
    Request,
    Answer(&'s mut Response<'a>),
    Piece(&'s mut Piece),
    Message(&'s mut Message),
    /// The answer has gone; this was its status, if there was one.
    Gone(Option<StatusCode>),
}

/// What the script decided.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Option<Box<Reply>>,
    /// It does not want the request's body.
    pub(crate) skip_body: bool,
    /// It wants this piece once more, with the next.
    pub(crate) held: Option<Bytes>,
    pub(crate) fate: MessageVerdict,
    /// The request of its own that it waits for, and the coroutine it does so in.
    pub(crate) call: Option<Box<Call>>,
}

/// What becomes of a message.
#[derive(Debug, Default)]
pub(crate) enum MessageVerdict {
    #[default]
    Forward,
    Drop,
    Close(u16, String),
}

/// A scene without its lifetimes, to be kept where only one lifetime can be named.
pub(crate) trait CallContext {
    fn visit(&mut self, look: &mut dyn FnMut(&mut Scene<'_, '_, '_>));
}

impl CallContext for Scene<'_, '_, '_> {
    fn visit(&mut self, look: &mut dyn FnMut(&mut Scene<'_, '_, '_>)) {
        look(self);
    }
}

scoped_thread_local!(static mut STAGE: for<'s> &'s mut (dyn CallContext + 's));

/// Runs `call` with this scene on the thread's stage.
pub(crate) fn play<T>(scene: &mut Scene<'_, '_, '_>, call: impl FnOnce() -> T) -> T {
    STAGE.set(scene, call)
}

/// Shows the scene of the call `turn` to `look`.
///
/// # Errors
/// When that call is over.
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
        Err(Error::runtime("this handle is from an earlier call; take the one that the function is given"))
    })
}

/// Shows the scene of the running call to `look`, whichever it is; nothing while the script is loaded.
pub(crate) fn current<T>(look: impl FnOnce(&mut Scene<'_, '_, '_>) -> Result<T>) -> Option<Result<T>> {
    if !STAGE.is_set() {
        return None;
    }
    let (mut look, mut seen) = (Some(look), None);
    STAGE.with(|stage| stage.visit(&mut |scene| seen = look.take().map(|look| look(scene))));
    seen
}
