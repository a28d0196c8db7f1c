// The page works without it. With it, what is shown is read anew each second, and choices need no button.
"use strict";

const SECOND = 1000;

for (const slider of document.querySelectorAll("input[type=range]")) {
    const output = slider.parentElement.querySelector("output");
    slider.addEventListener("input", () => (output.value = `${slider.value} s`));
}

document.getElementById("levels").addEventListener("change", (event) => event.currentTarget.requestSubmit());

async function refresh() {
    try {
        const answer = await fetch(location.href, { signal: AbortSignal.timeout(10 * SECOND) });
        if (answer.ok) {
            const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
            for (const part of document.querySelectorAll("[data-live]")) {
                part.replaceWith(fresh.getElementById(part.id));
            }
        }
    } catch (error) {
        console.warn("the page could not be read anew", error);
    }
    setTimeout(refresh, SECOND);
}

setTimeout(refresh, SECOND);
