// The parsers of others, for comparison with the one of inference-monitor.
//
//	parser-peers series                 what Prometheus' parsers find in the bodies on stdin
//	parser-peers bench SECONDS FILE...  how long each parser takes for the files, read in turn
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "series":
		err = series(os.Stdin, os.Stdout)
	case len(os.Args) > 3 && os.Args[1] == "bench":
		err = bench(os.Args[2], os.Args[3:])
	default:
		err = errors.New("usage: parser-peers series | parser-peers bench SECONDS FILE...")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "parser-peers:", err)
		os.Exit(1)
	}
}

// series reads bodies, each after its length in four bytes, little end first, and writes what the parsers of Prometheus find in each:
// a line with the parser's name and `ok` or what was wrong, a line per series, and a line with a point at the end.
func series(in io.Reader, out io.Writer) error {
	reader, writer := bufio.NewReader(in), bufio.NewWriter(out)
	for {
		var length uint32
		if err := binary.Read(reader, binary.LittleEndian, &length); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(reader, body); err != nil {
			return err
		}
		write(writer, "text", textparse.NewPromParser(slices.Clone(body), labels.NewSymbolTable(), false))
		write(writer, "openmetrics", textparse.NewOpenMetricsParser(slices.Clone(body), labels.NewSymbolTable()))
		fmt.Fprintln(writer, ".")
		if err := writer.Flush(); err != nil {
			return err
		}
	}
}

// write writes what one parser finds. Texts are in hexadecimal, values as the bits of the number.
func write(out io.Writer, name string, parser textparse.Parser) {
	var found strings.Builder
	var set labels.Labels
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			fmt.Fprintf(out, "%s ok\n%s", name, found.String())
			return
		}
		if err != nil {
			fmt.Fprintf(out, "%s %q\n", name, err.Error())
			return
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := parser.Series()
		parser.Labels(&set)
		fmt.Fprintf(&found, "%016x", math.Float64bits(value))
		set.Range(func(label labels.Label) {
			fmt.Fprintf(&found, " %s=%s", hex.EncodeToString([]byte(label.Name)), hex.EncodeToString([]byte(label.Value)))
		})
		found.WriteByte('\n')
	}
}

// A peer reads a body in full.
type peer struct {
	name string
	read func(body []byte) error
}

func bench(seconds string, files []string) error {
	limit, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	var bodies [][]byte
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		bodies = append(bodies, body)
	}
	var rows prometheus.Rows
	symbols := labels.NewSymbolTable()
	peers := []peer{
		{"VictoriaMetrics", func(body []byte) error {
			var fault error
			rows.UnmarshalWithErrLogger(string(body), func(said string) { fault = errors.New(said) })
			return fault
		}},
		{"Prometheus textparse", func(body []byte) error { return read(textparse.NewPromParser(body, symbols, false)) }},
		{"expfmt", func(body []byte) error {
			parser := expfmt.NewTextParser(model.LegacyValidation)
			_, err := parser.TextToMetricFamilies(bytes.NewReader(body))
			return err
		}},
	}
	for _, peer := range peers {
		if err := measure(peer, bodies, time.Duration(limit*float64(time.Second))); err != nil {
			return fmt.Errorf("%s: %w", peer.name, err)
		}
	}
	return nil
}

// read walks over a body with all labels, as a scrape of Prometheus does for series it does not know yet.
func read(parser textparse.Parser) error {
	var set labels.Labels
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry == textparse.EntrySeries {
			parser.Series()
			parser.Labels(&set)
		}
	}
}

// measure writes nanoseconds of the fastest round over the bodies, divided by their number, and allocations per body.
func measure(peer peer, bodies [][]byte, limit time.Duration) error {
	var before, after runtime.MemStats
	fastest := time.Duration(math.MaxInt64)
	rounds := 0
	begun := time.Now()
	for rounds < 3 || time.Since(begun) < limit {
		if rounds == 1 {
			runtime.ReadMemStats(&before)
		}
		start := time.Now()
		for _, body := range bodies {
			if err := peer.read(body); err != nil {
				return err
			}
		}
		fastest = min(fastest, time.Since(start))
		rounds++
	}
	runtime.ReadMemStats(&after)
	read := float64((rounds - 1) * len(bodies))
	fmt.Printf("%s\t%.0f\t%.1f\n", peer.name, float64(fastest.Nanoseconds())/float64(len(bodies)), float64(after.Mallocs-before.Mallocs)/read)
	return nil
}
