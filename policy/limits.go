package policy

// Limits of a document. They bound what compiling one, and deciding by it, can cost.
const (
	DocumentBytesMax = 256 << 10
	rolesMax         = 1_000
	bindingsMax      = 10_000
	rulesMax         = 10_000 // in roles and bindings together
	patternsMax      = 20_000 // in all rules together
	perSubjectMax    = 5_000  // patterns that one identity can get from all of its bindings
	autoCreateMax    = 1_000
	testsMax         = 1_000 // entries of tests
	checksMax        = 2_000 // lines of can and cannot together
	errorsMax        = 50    // reported for one document
	nameBytesMax     = 64    // of roles and captures
	identityBytesMax = 2_048
	partitionsMax    = 4_096 // of an auto-created topic
)

// cacheWeightMax bounds the cache of subjects, in patterns held (one more per subject).
const cacheWeightMax = 200_000
