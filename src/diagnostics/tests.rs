#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use moongate_config::Place;

fn place(line: u32, column: u32, width: u32, path: &str) -> Place {
    Place { file: "a.yaml".into(), line, column, width, path: path.into() }
}

fn sources(text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.insert("a.yaml".into(), text.to_owned());
    sources
}

fn one(problem: Problem, text: &str) -> String {
    render(&problem.into(), &sources(text), Color::Never)
}

#[test]
fn a_problem_looks_as_rustc_shows_it() {
    let problem = Problem::new("unknown upstream `wsbackned`")
        .at(&place(2, 15, 9, "routes[2].upstream"))
        .suggest("wsbackned", ["wsbackend"])
        .help("add it under `upstreams`");
    let expected = "\
error: unknown upstream `wsbackned`
 --> a.yaml:2:15  routes[2].upstream
  |
2 |     upstream: wsbackned
  |               ^^^^^^^^^ did you mean `wsbackend`?
  |
  = help: add it under `upstreams`

1 error
";
    assert_eq!(one(problem, "routes:\n    upstream: wsbackned\n"), expected);
}

#[test]
fn problems_are_sorted_by_place_and_counted() {
    let mut problems = Problems::default();
    problems.push(Problem::warning("late").at(&place(3, 1, 1, "")));
    problems.push(Problem::new("early").at(&place(1, 2, 1, "")));
    problems.push(Problem::new("early").at(&place(1, 2, 1, "by an alias")));
    problems.push(Problem::new("nowhere"));
    let report = render(&problems, &sources("abc\n\nxyz"), Color::Never);
    let order: Vec<_> = ["nowhere", "early", "late"].map(|word| report.find(word).unwrap()).into();
    assert!(order.is_sorted(), "{report}");
    assert!(report.ends_with("\n\n2 errors, 1 warning\n"), "{report}");
    assert_eq!(report.matches("early").count(), 1);
}

#[test]
fn tabs_and_wide_characters_keep_the_underline_in_place() {
    let report = one(Problem::new("x").at(&place(1, 4, 1, "")), "\t漢a: b");
    assert!(report.contains("1 |     漢a: b\n  |        ^\n"), "{report}");
}

#[test]
fn a_very_long_line_is_cut_around_the_place() {
    let line = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
    let report = one(Problem::new("x").at(&place(1, 5001, 4, "")), &line);
    let shown = report.lines().nth(3).unwrap();
    assert!(shown.chars().count() < 120 && shown.contains("HERE"), "{shown}");
    let carets = report.lines().nth(4).unwrap();
    let at = |line: &str, word: &str| line.split(word).next().unwrap().chars().count();
    assert_eq!(at(carets, "^^^^"), at(shown, "HERE"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let report = one(Problem::new("a\x1b[31m").at(&place(1, 1, 1, "\x07")).label("\r"), "\x1b[2J");
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
}

#[test]
fn a_place_outside_the_file_is_still_shown() {
    for (line, column, width) in [(9, 9, 9), (1, u32::MAX, u32::MAX), (0, 0, 0), (2, 1, 1)] {
        assert!(one(Problem::new("x").at(&place(line, column, width, "")), "abc\n").contains("error: x"));
    }
}

#[test]
fn a_problem_without_a_file_is_shown_without_a_place() {
    let report = one(Problem::new("x").label("y").at(&Place::nowhere()), "");
    assert_eq!(report, "error: x\n = help: y\n\n1 error\n");
}

#[test]
fn colours_are_only_for_terminals() {
    let problems = Problems::from(Problem::new("x").at(&place(1, 1, 1, "")));
    assert!(render(&problems, &sources("abc"), Color::Always).contains("\x1b[1;31merror"));
    assert_eq!(render(&Problems::default(), &sources("abc"), Color::Always), "");
}
