package bench

var (
	CommitOf = commitOf // the commit in a result's conditions
	Slope    = slope    // what a connection weighs
)
