package bench

// CommitOf is the commit in a result's conditions.
var CommitOf = commitOf
