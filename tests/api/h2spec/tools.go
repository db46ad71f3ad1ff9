//go:build tools

// Package h2spec names the program to build, so that its requirements are kept.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"
