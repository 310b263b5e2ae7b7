"""The grader's side: sandboxed submissions, marks, reports."""
