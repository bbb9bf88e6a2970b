//! One source line with an underline, with support for tabs, wide characters and very long lines.

use unicode_width::UnicodeWidthChar;

/// Columns shown of a line.
const WINDOW: usize = 100;
/// Columns before the place in a cut line.
const LEAD: usize = 40;
/// A tab, as spaces.
const TAB: &str = "    ";

/// A line, cut to the window, and its underline.
pub(super) struct Excerpt {
    /// The shown text.
    pub(super) text: String,
    /// Spaces before the underline.
    pub(super) indent: String,
    /// The underline: at least one caret.
    pub(super) carets: String,
}

impl Excerpt {
    /// The line around `width` characters at `column`, counted from 1.
    pub(super) fn around(line: &str, column: u32, width: u32) -> Self {
        let start = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let width = usize::try_from(width).unwrap_or(usize::MAX).max(1);
        let skipped = skipped(line, start);
        let mut text = String::new();
        let (mut columns, mut before, mut marked) = (0, 0, 0);
        if skipped > 0 {
            text.push('…');
            (columns, before) = (1, 1);
        }
        for (index, c) in line.trim_end().chars().enumerate().skip(skipped) {
            if columns >= WINDOW {
                text.push('…');
                break;
            }
            let wide = push(&mut text, c);
            columns += wide;
            if index < start {
                before += wide;
            } else if index - start < width {
                marked += wide;
            }
        }
        Self { text, indent: " ".repeat(before), carets: "^".repeat(marked.max(1)) }
    }
}

/// Characters left out at the start to move the place into the window.
fn skipped(line: &str, start: usize) -> usize {
    let mut columns = 0;
    let mut widths = line.chars().take(start).map(shown_width);
    let before: usize = widths.by_ref().sum();
    if before + LEAD <= WINDOW {
        return 0;
    }
    let surplus = before - LEAD;
    line.chars()
        .map(shown_width)
        .take_while(|wide| {
            columns += wide;
            columns <= surplus
        })
        .count()
}

fn shown_width(c: char) -> usize {
    match c {
        '\t' => TAB.len(),
        c if c.is_control() => 1,
        c => c.width().unwrap_or(0),
    }
}

fn push(text: &mut String, c: char) -> usize {
    match c {
        '\t' => text.push_str(TAB),
        c if c.is_control() => text.push('\u{fffd}'),
        c => text.push(c),
    }
    shown_width(c)
}
