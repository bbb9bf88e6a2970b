//! `moongate plugin test`: one request, its response and WebSocket messages through one plugin, in the
//! gateway's order of phases.

use super::super::{BAD_CONFIG, FAILED, color, print_error, print_out};
use super::TestArguments;
use super::log_capture::LogCapture;
use super::test_input::{self, TestInput};
use super::test_report::{Report, shown};
use crate::diagnostics::{self, Sources};
use crate::snapshot::Kinds;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Direction, Message, MessageVerdict, Piece, Plugin, Verdict, WebSocketEnd};
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn main(arguments: &TestArguments, kinds: Kinds) -> ExitCode {
    let capture = LogCapture::begin();
    let input = match TestInput::read(arguments, &capture) {
        Ok(input) => input,
        Err(wrong) => {
            print_error(&format!("error: {wrong}\n"));
            return ExitCode::from(2);
        }
    };
    let plugin = match test_input::plugin(arguments, kinds) {
        Ok(plugin) => plugin,
        Err(problems) => {
            print_error(&diagnostics::render(&problems, &Sources::default(), color()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let (text, failed) = PluginTest::new(input, capture).through(&*plugin);
    let said = print_out(&text);
    if failed { ExitCode::from(FAILED) } else { said }
}

/// The input of the plugin, and its effects so far.
struct PluginTest {
    visit: TestExchange,
    body: Bytes,
    response_body: Bytes,
    messages: Vec<(Direction, String)>,
    capture: LogCapture,
    report: Report,
    failed: bool,
}

impl PluginTest {
    fn new(input: TestInput, capture: LogCapture) -> Self {
        let TestInput { visit, body, response_body: answer_body, messages } = input;
        Self {
            visit,
            body,
            response_body: answer_body,
            messages,
            capture,
            report: Report::default(),
            failed: false,
        }
    }

    /// Every phase that the plugin takes part in.
    fn through(mut self, plugin: &dyn Plugin) -> (String, bool) {
        self.request(plugin);
        if !self.failed {
            self.respond(plugin);
        }
        if !self.failed && self.visit.status == StatusCode::SWITCHING_PROTOCOLS {
            self.socket(plugin);
        }
        if plugin.phases().log {
            let status = if self.failed { StatusCode::INTERNAL_SERVER_ERROR } else { self.visit.status };
            self.report.section("log");
            self.visit.with_exchange(|exchange| plugin.log(exchange, Some(status)));
            self.report_log_lines();
        }
        if !self.visit.running.notes().is_empty() {
            self.report.section("notes");
            for note in self.visit.running.notes() {
                self.report.line(format!("{}: {}", note.key, note.value));
            }
        }
        (self.report.finish(), self.failed)
    }

    fn request(&mut self, plugin: &dyn Plugin) {
        let (method, target) = (self.visit.method.clone(), self.visit.target.clone());
        self.report.section(&format!("request {method} {target}"));
        let before = self.visit.request.clone();
        let mut piece = Piece { bytes: self.body.clone(), last: true };
        let mut verdict = self.visit.request_headers(plugin);
        let whole = matches!(verdict, Verdict::Body(_));
        if let Verdict::Body(limit) = verdict
            && self.body.len() as u64 > limit
        {
            self.report
                .line(format!("respond 413: the body exceeds the {limit} bytes that the plugin buffers"));
            self.failed = true;
            return;
        }
        let streamed = plugin.phases().request_body && !self.visit.running.skips_bodies(0);
        if whole || (matches!(verdict, Verdict::Continue) && streamed && !self.body.is_empty()) {
            verdict = self.visit.request_body(plugin, &mut piece);
        }
        self.report.fields(&before, &self.visit.request);
        if let Some(edits) = self.visit.running.edits() {
            let now = edits.method.as_ref().unwrap_or(&method).as_str();
            self.report.change("method", method.as_str(), now);
            self.report.change("target", &target, edits.target.as_deref().unwrap_or(&target));
        }
        self.report.change("body", &shown(&self.body), &shown(&piece.bytes));
        self.report_verdict(verdict);
    }

    fn respond(&mut self, plugin: &dyn Plugin) {
        self.report.section(&format!("response {}", self.visit.status.as_u16()));
        let (status, before) = (self.visit.status, self.visit.response.clone());
        let verdict = self.visit.response_headers(plugin);
        self.report.change("status", status.as_str(), self.visit.status.as_str());
        self.report.fields(&before, &self.visit.response);
        self.report_verdict(verdict);
        if self.failed
            || self.response_body.is_empty()
            || !plugin.phases().response_body
            || self.visit.running.skips_bodies(0)
        {
            return;
        }
        let mut piece = Piece { bytes: self.response_body.clone(), last: true };
        let passed = self.visit.with_exchange(|exchange| plugin.response_body(exchange, &mut piece));
        self.report.change("body", &shown(&self.response_body), &shown(&piece.bytes));
        if let Err(fault) = passed {
            self.report_verdict(Verdict::Failed(fault));
        }
        self.report_log_lines();
    }

    fn socket(&mut self, plugin: &dyn Plugin) {
        let phases = plugin.phases();
        let (mut messages, mut bytes) = ([0; 2], [0; 2]);
        let mut code = 1000;
        for (direction, text) in std::mem::take(&mut self.messages) {
            let (side, index, shows) = match direction {
                Direction::ToBackend => ("backend", 0, phases.messages_to_backend),
                Direction::ToClient => ("client", 1, phases.messages_to_client),
            };
            self.report.section(&format!("message to the {side} {text:?}"));
            messages[index] += 1;
            bytes[index] += text.len() as u64;
            if !shows {
                continue;
            }
            let payload = BytesMut::from(text.as_bytes());
            let mut message = Message { direction, binary: false, payload };
            let verdict = self.visit.message(plugin, &mut message);
            if let Some(ended) = self.report_message_verdict(verdict, &text, message) {
                code = ended;
                break;
            }
        }
        if phases.closed {
            self.report.section(&format!("closed {code}"));
            let lifetime = Duration::ZERO;
            let ended = WebSocketEnd { code, reason: "client", lifetime, messages, bytes };
            self.visit.with_exchange(|exchange| plugin.closed(exchange, &ended));
            self.report_log_lines();
        }
    }

    /// Reports the verdict on a message; returns the close code if the verdict ends the WebSocket.
    fn report_message_verdict(
        &mut self,
        verdict: MessageVerdict,
        text: &str,
        message: Message,
    ) -> Option<u16> {
        let ended = match verdict {
            MessageVerdict::Forward => {
                let sort = if message.binary { "binary" } else { "text" };
                self.report.change("type", "text", sort);
                let before = shown(&Bytes::copy_from_slice(text.as_bytes()));
                self.report.change("payload", &before, &shown(&message.payload.freeze()));
                None
            }
            MessageVerdict::Drop => {
                self.report.line("dropped");
                None
            }
            MessageVerdict::Close { code, reason } => {
                self.report.line(format!("close {code} {reason}"));
                Some(code)
            }
            MessageVerdict::Failed(fault) => {
                self.report_verdict(Verdict::Failed(fault));
                Some(1011)
            }
        };
        self.report_log_lines();
        ended
    }

    /// Reports the verdict on a header.
    fn report_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Continue => {}
            Verdict::Respond(reply) => {
                self.report.reply(&reply);
                (self.visit.status, self.visit.response) = (reply.status, reply.headers);
                self.response_body = reply.body;
            }
            Verdict::Body(_) => self.report.line("body requested in a phase without a body"),
            Verdict::Failed(fault) => {
                self.report.line(format!("fault: {fault}"));
                self.failed = true;
            }
        }
        self.report_log_lines();
    }

    fn report_log_lines(&mut self) {
        for line in self.capture.take() {
            self.report.line(line);
        }
    }
}
