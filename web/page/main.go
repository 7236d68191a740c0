//go:build js && wasm

// Command page is the page: vugu components over the state in [App], which talks to the worker (web/worker) and to nothing else.
package main

import (
	"fmt"
	"runtime"

	"github.com/vugu/vugu"
	"github.com/vugu/vugu/domrender"
)

func main() {
	// Browsers compile functions when they are first called. The collector's first cycle would cost 70 ms on the main thread because of that,
	// at some moment in a run; later ones take 2 ms. So the first one is here, where nobody waits for a key or a frame.
	runtime.GC()
	renderer, err := domrender.New("#app")
	if err != nil {
		panic(fmt.Errorf("starting the renderer: %w", err))
	}
	buildEnv, err := vugu.NewBuildEnv(renderer.EventEnv())
	if err != nil {
		panic(fmt.Errorf("starting the page: %w", err))
	}
	root := &Root{App: NewApp(renderer.EventEnv())}
	root.App.Start()
	for _, listen := range []func() error{root.App.listenForLinks, root.App.wakeAgain} {
		if err := listen(); err != nil {
			panic(fmt.Errorf("starting the page: %w", err))
		}
	}
	nextTask, err := newTasks()
	if err != nil {
		panic(fmt.Errorf("starting the page: %w", err))
	}
	var touched bool
	for _, event := range []string{"input", "change", "click"} {
		if err := listen(property("document"), event, func() { touched = true }); err != nil {
			panic(fmt.Errorf("starting the page: %w", err))
		}
	}
	for ok := true; ok; ok = renderer.EventWait() {
		// What an event changed, what the page should look like and what that changes in the document are a task each, and keys and frames
		// come between: together they take more than 50 ms on a slow machine.
		nextTask()
		built := buildEnv.RunBuild(root)
		touched = false
		nextTask()
		if touched { // a field holds what it did not when the page was built, and would lose it
			built = buildEnv.RunBuild(root)
		}
		if err := renderer.Render(built); err != nil {
			panic(fmt.Errorf("drawing the page: %w", err))
		}
	}
}

// The components. Each shows one part of the state and holds none of its own. (One declaration each: vugugen looks for them.)

// Root is the page.
type Root struct {
	App *App
}

// ModelStep is step 1.
type ModelStep struct {
	App *App
}

// DataStep is step 2.
type DataStep struct {
	App *App
}

// TrainStep is step 3.
type TrainStep struct {
	App *App
}

// Chart is the losses and scores of the run.
type Chart struct {
	App *App
}

// ResultStep is step 4.
type ResultStep struct {
	App *App
}

// Storage is the list of what is stored.
type Storage struct {
	App *App
}

// Problem is the message of what went wrong.
type Problem struct {
	App *App
}

// Privacy is the browser's log of what the page asked for.
type Privacy struct {
	App *App
}

// KeepStep is step 5: what a run is saved as.
type KeepStep struct {
	App *App
}

// Runs is the list of stored runs.
type Runs struct {
	App *App
}

// Models lists stored models, unfinished downloads and the catalogue.
type Models struct {
	App *App
}
