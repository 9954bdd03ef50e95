// Package topic is the grammar of names: topics, groups and the patterns that match
// them, and the numbers that place a record (partition, offset).
package topic
