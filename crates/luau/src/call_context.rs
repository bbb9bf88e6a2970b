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
pub(crate) struct CallContext<'s, 'e, 'a> {
    /// The number of the call; handles of other calls find nothing.
    pub(crate) number: u64,
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
    Response(&'s mut Response<'a>),
    Piece(&'s mut Piece),
    Message(&'s mut Message),
    /// The response was sent; its status, if there was a response.
    Finished(Option<StatusCode>),
}

/// The script's decision.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Option<Box<Reply>>,
    /// It does not need the request's body.
    pub(crate) skip_body: bool,
    /// The script holds this chunk back until the next one.
    pub(crate) held: Option<Bytes>,
    pub(crate) verdict: ScriptMessageVerdict,
    /// The script's pending HTTP call, and the coroutine that waits for it.
    pub(crate) call: Option<Box<Call>>,
}

/// The verdict on a message.
#[derive(Debug, Default)]
pub(crate) enum ScriptMessageVerdict {
    #[default]
    Forward,
    Drop,
    Close(u16, String),
}

/// A context without its lifetimes, for a place that can name only one lifetime.
pub(crate) trait ErasedCallContext {
    fn visit(&mut self, look: &mut dyn FnMut(&mut CallContext<'_, '_, '_>));
}

impl ErasedCallContext for CallContext<'_, '_, '_> {
    fn visit(&mut self, look: &mut dyn FnMut(&mut CallContext<'_, '_, '_>)) {
        look(self);
    }
}

scoped_thread_local!(static mut CALL_CONTEXT: for<'s> &'s mut (dyn ErasedCallContext + 's));

/// Runs `call` with this context in the thread-local.
pub(crate) fn run_in<T>(context: &mut CallContext<'_, '_, '_>, call: impl FnOnce() -> T) -> T {
    CALL_CONTEXT.set(context, call)
}

/// Passes the context of the call `number` to `look`.
///
/// # Errors
/// That call is over.
pub(crate) fn look<T>(
    number: u64,
    look: impl FnOnce(&mut CallContext<'_, '_, '_>) -> Result<T>,
) -> Result<T> {
    let seen = CALL_CONTEXT.is_set().then(|| {
        let (mut look, mut seen) = (Some(look), None);
        CALL_CONTEXT.with(|erased| {
            erased.visit(&mut |context| {
                if context.number == number
                    && let Some(look) = look.take()
                {
                    seen = Some(look(context));
                }
            });
        });
        seen
    });
    seen.flatten().unwrap_or_else(|| {
        Err(Error::runtime("this handle is from an earlier call; use the one that the function receives"))
    })
}

/// Passes the context of the running call to `look`; `None` while the script is loaded.
pub(crate) fn current<T>(look: impl FnOnce(&mut CallContext<'_, '_, '_>) -> Result<T>) -> Option<Result<T>> {
    if !CALL_CONTEXT.is_set() {
        return None;
    }
    let (mut look, mut seen) = (Some(look), None);
    CALL_CONTEXT.with(|erased| erased.visit(&mut |context| seen = look.take().map(|look| look(context))));
    seen
}
