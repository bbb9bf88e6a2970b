# compare.awk nginx.csv moongate.csv: prints the findings above INFO of both, and fails if Moongate has
# a finding that nginx does not have, or a worse one.

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
  # Findings about the second certificate have its number appended.
  sub(/ <cert#[0-9]+>$/, "", id)
  if (file == 1) {
    if (rank[severity] > theirs[id]) theirs[id] = rank[severity]
    next
  }
  seen[id] = 1
  # Tested before the comparison, which would create the entry.
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
  print worse ? "testssl: " worse " findings that nginx does not have" : "testssl: no finding that nginx does not have"
  exit worse > 0
}
