package trace

// Rejected is rejected, for tests.
var Rejected = rejected
