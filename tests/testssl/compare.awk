# compare.awk nginx.csv moongate.csv: prints what the two show above INFO, and fails when Moongate shows
# something that nginx does not, or something worse.

BEGIN {
  FS = "\",\""
  split("WARN LOW MEDIUM HIGH CRITICAL FATAL", order, " ")
  for (at in order) rank[order[at]] = at + 0
}

FNR == 1 { file++; next }

{
  id = substr($1, 2)
  severity = $4
  if (!(severity in rank)) next
  # What is said of the second certificate has its number behind it.
  sub(/ <cert#[0-9]+>$/, "", id)
  if (file == 1) {
    if (rank[severity] > theirs[id]) theirs[id] = rank[severity]
    next
  }
  seen[id] = 1
  # Asked before it is compared: awk makes what it compares.
  note = id in theirs ? " (nginx: " order[theirs[id]] ")" : " (nginx: nothing)"
  if (rank[severity] > theirs[id]) {
    worse++
    print "  worse   " severity " " id ": " $5 note
  } else {
    print "  same    " severity " " id ": " $5
  }
}

END {
  for (id in theirs) if (!(id in seen)) print "  better  nginx alone shows " order[theirs[id]] " " id
  if (file < 2) { print "testssl: nothing to compare"; exit 1 }
  print worse ? "testssl: " worse " findings that nginx does not show" : "testssl: nothing that nginx does not show"
  exit worse > 0
}
