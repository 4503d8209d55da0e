// Prints each line of a file that grows and is rotated, as github.com/nxadm/tail sees them through inotify.
package main

import (
	"log"
	"os"

	"github.com/nxadm/tail"
)

func main() {
	followed, err := tail.TailFile(os.Args[1], tail.Config{Follow: true, ReOpen: true})
	if err != nil {
		log.Fatal(err)
	}
	for line := range followed.Lines {
		if line.Err != nil {
			log.Fatal(line.Err)
		}
		if _, err := os.Stdout.WriteString(line.Text + "\n"); err != nil {
			log.Fatal(err)
		}
	}
	log.Fatal(followed.Wait())
}
