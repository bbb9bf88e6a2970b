//! `moongate top`: rates, endpoints and drains of a gateway on a whole terminal, or as lines of JSON.
//!
//! The terminal is restored on every way out: by the guard on return and error, by the panic hook of
//! `ratatui::try_init`, and before a signal ends the process.

mod draw;
mod endpoint_details;
mod endpoint_table;
mod json_snapshot;
mod live_feed;
mod live_state;
mod view_state;

use super::admin_client::{AdminArguments, AdminClient, EventStream};
use super::command_error::CommandError;
use super::{OutputState, drain, print_line};
use crate::server::EndSignal;
use json_snapshot::JsonSnapshot;
use live_feed::FeedUpdate;
use live_state::LiveState;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as TerminalEvent};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinSet;
use view_state::{DrainOrder, KeyAction, ViewState};

/// The number of updates that wait for a slow terminal.
const WAITING: usize = 64;

/// The shortest time between two drawings: a burst of updates is drawn once.
const FRAME: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
    /// Print one JSON object of overview and upstreams a line, every second
    #[arg(long)]
    json: bool,
    /// Print one object and exit
    #[arg(long, requires = "json")]
    once: bool,
}

/// Runs until a key or a signal ends it.
pub(super) fn main(arguments: &Arguments, mut signals: UnboundedReceiver<EndSignal>) -> ExitCode {
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !arguments.json && !has_terminal {
        return CommandError::failed("`moongate top` needs a terminal")
            .help("`moongate top --json` prints one JSON object a line, with `--once` one object")
            .print();
    }
    let mut end = None;
    let code = arguments.admin.run(async |client| {
        let work = async {
            // Before the terminal is taken: an unreachable gateway is an ordinary error.
            let stream = client.stream(&live_feed::target()).await?;
            if arguments.json {
                print_json(&client, stream, arguments.once).await
            } else {
                show(client.clone(), stream).await
            }
        };
        tokio::select! {
            outcome = Box::pin(work) => outcome,
            Some(signal) = signals.recv() => {
                end = Some(signal);
                Ok(ExitCode::FAILURE)
            }
        }
    });
    // The terminal is restored by now.
    if let Some(signal) = end {
        signal.end_process();
    }
    code
}

/// Prints an object a second; a lost stream is an error, which a supervisor of the command can handle.
async fn print_json(
    client: &AdminClient,
    mut stream: EventStream,
    once: bool,
) -> Result<ExitCode, CommandError> {
    let mut snapshot = JsonSnapshot::default();
    while let Some(event) = stream.next().await? {
        let Some(line) = snapshot.apply(&event) else { continue };
        match print_line(&line) {
            OutputState::Open if once => return Ok(ExitCode::SUCCESS),
            OutputState::Open => {}
            OutputState::Closed => return Ok(ExitCode::SUCCESS),
            OutputState::Failed => return Ok(ExitCode::FAILURE),
        }
    }
    Err(CommandError::failed(format!("the gateway at {} has closed the stream", client.address())))
}

/// The terminal in raw mode, restored on drop.
struct RawTerminal(DefaultTerminal);

impl RawTerminal {
    fn open() -> Result<Self, CommandError> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                ratatui::restore();
                Err(CommandError::failed(format!("the terminal cannot be used: {error}")))
            }
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn show(client: AdminClient, stream: EventStream) -> Result<ExitCode, CommandError> {
    let address = client.address().to_string();
    let (mut state, mut view) = (LiveState::default(), ViewState::default());
    let (updates_in, mut updates) = channel(WAITING);
    let (outcomes_in, mut outcomes) = unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(live_feed::run(client.clone(), stream, updates_in));
    let mut screen = RawTerminal::open()?;
    let mut keys = read_keys()?;
    loop {
        let drawn = screen.0.draw(|frame| draw::draw(frame, &address, &state, &view));
        drawn.map_err(|error| CommandError::failed(format!("the terminal cannot be written: {error}")))?;
        // A key is drawn at once. Updates wait for the next frame.
        let is_prompt = tokio::select! {
            biased;
            key = keys.recv() => match key {
                Some(Ok(TerminalEvent::Key(key))) => match view.press(key, &state) {
                    KeyAction::Quit => return Ok(ExitCode::SUCCESS),
                    KeyAction::Send(order) => {
                        tasks.spawn(send(client.clone(), order, outcomes_in.clone()));
                        true
                    }
                    KeyAction::None => true,
                },
                // A new size is drawn like any other change.
                Some(Ok(_)) => true,
                Some(Err(error)) => return Err(CommandError::failed(format!("the terminal cannot be read: {error}"))),
                None => return Ok(ExitCode::SUCCESS),
            },
            Some(outcome) = outcomes.recv() => {
                view.message = Some(outcome);
                true
            }
            Some(update) = updates.recv() => {
                apply(update, &mut state)?;
                false
            }
        };
        while let Ok(update) = updates.try_recv() {
            apply(update, &mut state)?;
        }
        if !is_prompt {
            tokio::time::sleep(FRAME).await;
        }
    }
}

fn apply(update: FeedUpdate, state: &mut LiveState) -> Result<(), CommandError> {
    match update {
        FeedUpdate::Event(event) => state.apply(&event),
        FeedUpdate::Connected => state.lost = None,
        FeedUpdate::Lost(reason) => state.lost = Some(reason),
        FeedUpdate::Refused(error) => return Err(error.into()),
    }
    Ok(())
}

/// Reads the terminal on a thread of its own. The thread ends with the process: a read cannot be interrupted.
fn read_keys() -> Result<UnboundedReceiver<io::Result<TerminalEvent>>, CommandError> {
    let (keys, receiver) = unbounded_channel();
    let read = move || {
        loop {
            let event = event::read();
            let is_error = event.is_err();
            if keys.send(event).is_err() || is_error {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("keys".to_owned()).spawn(read) {
        Ok(_) => Ok(receiver),
        Err(error) => Err(CommandError::failed(format!("the thread of the keys cannot be started: {error}"))),
    }
}

/// Sends an order and reports its outcome as a line.
async fn send(client: AdminClient, order: DrainOrder, outcomes: UnboundedSender<String>) {
    let (upstream, endpoint) = &order.endpoint;
    let outcome = match client.post(&drain::target(upstream, endpoint, order.verb)).await {
        Ok(_) => format!("{upstream} {endpoint}: {} ordered", order.verb),
        Err(error) => format!("{upstream} {endpoint}: {error}"),
    };
    // The receiver is gone only at the end of the command.
    let _ = outcomes.send(outcome);
}
