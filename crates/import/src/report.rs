//! Findings: what became of every directive.

use crate::reader::Directive;
use moongate_config::Place;

/// What became of a directive, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The gateway does it without a setting, or it has no effect here.
    Implied,
    /// A setting of the result does the same.
    TakenOver,
    /// A setting of the result does it in another way.
    Changed,
    /// The result does not do it.
    NotTranslated,
}

impl Outcome {
    /// The words of the report.
    pub fn words(self) -> &'static str {
        match self {
            Self::Implied => "implied",
            Self::TakenOver => "taken over",
            Self::Changed => "changed",
            Self::NotTranslated => "not translated",
        }
    }
}

/// The finding of one directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What became of it.
    pub outcome: Outcome,
    /// Its name.
    pub name: String,
    /// Name and arguments on one line.
    pub line: String,
    /// Its place.
    pub place: Place,
    /// What it became, or why it is not needed or not translated; may be empty.
    pub reasons: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
    /// Whether the finding is that of the surrounding block.
    pub is_within: bool,
    /// The number of entries of a table, such as `types` or `map`; 0 for any other directive.
    pub entries: usize,
    /// Whether it is an entry of a table, and the finding of the table suffices.
    pub is_entry: bool,
}

/// The findings of all directives, in the order of the files.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    findings: Vec<Option<Finding>>,
}

impl Notes {
    /// Notes for that many directives.
    pub(crate) fn new(count: usize) -> Self {
        Self { findings: vec![None; count] }
    }

    /// The directive became this setting.
    pub(crate) fn taken(&mut self, directive: &Directive, became: impl Into<String>) {
        self.note(directive, Outcome::TakenOver, became.into(), None);
    }

    /// The directive needs no setting.
    pub(crate) fn implied(&mut self, directive: &Directive, why: impl Into<String>) {
        self.note(directive, Outcome::Implied, why.into(), None);
    }

    /// The directive became something else.
    pub(crate) fn changed(&mut self, directive: &Directive, difference: impl Into<String>) {
        self.note(directive, Outcome::Changed, difference.into(), None);
    }

    /// The directive was not translated.
    pub(crate) fn refused(&mut self, directive: &Directive, why: impl Into<String>, help: &str) {
        self.note(directive, Outcome::NotTranslated, why.into(), Some(help.to_owned()));
    }

    /// Adds what to do.
    pub(crate) fn help(&mut self, directive: &Directive, help: impl Into<String>) {
        let help = help.into();
        if let Some(Some(finding)) = self.findings.get_mut(directive.id)
            && !help.is_empty()
            && !finding.help.contains(&help)
        {
            finding.help.push(help);
        }
    }

    /// Applies one finding to a directive and to everything in its block.
    pub(crate) fn block(&mut self, directive: &Directive, outcome: Outcome, why: &str, help: Option<&str>) {
        self.note(directive, outcome, why.to_owned(), help.map(str::to_owned));
        for child in directive.children() {
            self.within(child, outcome, &directive.name);
        }
    }

    /// Notes that a block was not translated, also what was noted as translated in it.
    pub(crate) fn refuse_block(&mut self, directive: &Directive, why: &str, help: &str) {
        self.note(directive, Outcome::NotTranslated, why.to_owned(), Some(help.to_owned()));
        for child in directive.children() {
            self.refuse_within(child, &directive.name);
        }
    }

    fn refuse_within(&mut self, directive: &Directive, block: &str) {
        let Some(slot) = self.findings.get_mut(directive.id) else { return };
        if slot.as_ref().is_none_or(|finding| finding.outcome < Outcome::NotTranslated) {
            *slot = None;
            self.within(directive, Outcome::NotTranslated, block);
        }
        for child in directive.children() {
            self.refuse_within(child, block);
        }
    }

    /// Applies the finding of a block to a directive in it, unless it has one.
    fn within(&mut self, directive: &Directive, outcome: Outcome, block: &str) {
        if !self.has(directive) {
            self.note(directive, outcome, format!("as `{block}`"), None);
            if let Some(Some(finding)) = self.findings.get_mut(directive.id) {
                finding.is_within = true;
            }
        }
        for child in directive.children() {
            self.within(child, outcome, block);
        }
    }

    /// Counts the entries of a table. Those that are taken over or implied need no line of their own.
    pub(crate) fn fold(&mut self, table: &Directive) {
        if let Some(Some(finding)) = self.findings.get_mut(table.id) {
            finding.entries = table.children().len();
        }
        for entry in table.children() {
            if let Some(Some(finding)) = self.findings.get_mut(entry.id) {
                finding.is_entry = finding.outcome <= Outcome::TakenOver;
            }
        }
    }

    /// Whether the directive has a finding.
    pub(crate) fn has(&self, directive: &Directive) -> bool {
        self.findings.get(directive.id).is_some_and(Option::is_some)
    }

    /// Adds a finding. A directive that has several, because blocks inherit it, keeps the worst outcome.
    fn note(&mut self, directive: &Directive, outcome: Outcome, reason: String, help: Option<String>) {
        let Some(slot) = self.findings.get_mut(directive.id) else { return };
        let finding = slot.get_or_insert_with(|| Finding {
            outcome,
            name: directive.name.clone(),
            line: directive.line(),
            place: directive.place.clone(),
            reasons: Vec::new(),
            help: Vec::new(),
            is_within: false,
            entries: 0,
            is_entry: false,
        });
        if outcome > finding.outcome {
            finding.outcome = outcome;
            finding.reasons.clear();
        }
        if outcome == finding.outcome && !reason.is_empty() && !finding.reasons.contains(&reason) {
            finding.reasons.push(reason);
        }
        for help in help.into_iter().filter(|help| !help.is_empty()) {
            if !finding.help.contains(&help) {
                finding.help.push(help);
            }
        }
        finding.is_within = false;
    }

    /// All findings.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_iter().flatten().collect()
    }
}
