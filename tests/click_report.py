"""Clicks through an HTML report: REPORT.html TABLE.json SCREENSHOTS RANKS (the table
of `qzo report --json`)."""
import json
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

FIGURES = ("loss", "dev", "heat", "parallel", "gradient", "clip", "time", "ranks")
SECONDS = 60  # a loaded machine may take long over the first figure


def check(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


def open_browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1300,2900",
                     "--host-resolver-rules=MAP * ~NOTFOUND"):  # no network
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def trials_shown(browser):
    return [int(row.find_element(By.TAG_NAME, "td").text)
            for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]


def curves_drawn(browser):
    return browser.execute_script("return document.getElementById('dev').data.length")


def click_through(browser, table, screenshots):
    by_loss = sorted((t for t in table if t["dev_loss"] is not None), key=lambda t: t["dev_loss"])
    check(trials_shown(browser) == [t["trial"] for t in table], "the table is not in grid order")
    browser.save_screenshot(str(screenshots / "all.png"))

    browser.find_element(By.CSS_SELECTOR, "th[data-key=dev_loss]").click()
    shown = trials_shown(browser)[: len(by_loss)]
    check([table[i - 1]["dev_loss"] for i in shown] == [t["dev_loss"] for t in by_loss],
          f"sorted by dev loss the table begins with {shown}")

    browser.find_element(By.ID, "filter").send_keys("finished eps=0.001")
    wanted = {t["trial"] for t in table
              if t["status"] == "finished" and t["parameters"]["eps"] == "0.001"}
    check(set(trials_shown(browser)) == wanted, f"the filter leaves {trials_shown(browser)}")
    check(curves_drawn(browser) == len(wanted), "the curves do not follow the filter")

    browser.find_element(By.CSS_SELECTOR, "tbody tr").click()
    check(len(browser.find_elements(By.CSS_SELECTOR, "tbody tr.picked")) == 1, "no row is picked")
    Select(browser.find_element(By.ID, "devkey")).select_by_value("score")
    Select(browser.find_element(By.ID, "heatz")).select_by_value("test_score")
    title = browser.execute_script(
        "return document.getElementById('dev').layout.yaxis.title.text")
    check(title == "dev score", f"the right curves show {title}")
    browser.save_screenshot(str(screenshots / "filtered.png"))


def check_ranks(browser, rank_count):
    """One bar per rank, of three parts that add up to the seconds that all ranks had."""
    parts = browser.execute_script(
        "return document.getElementById('ranks').data.map(part => [part.x, part.y])")
    check([names for names, _ in parts] == [[str(i) for i in range(rank_count)]] * 3,
          f"the bars of {rank_count} ranks are {parts}")
    totals = [sum(seconds) for seconds in zip(*(part[1] for part in parts))]
    check(max(totals) - min(totals) < 1e-3 and all(part[1][0] > 0 for part in parts),
          f"the ranks' seconds add up to {totals}: {parts}")
    text = browser.find_element(By.ID, "bytes").text
    check("broadcast of the model's" in text, f"no bytes of a broadcast: {text}")


def main():
    page, table, screenshots = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), sys.argv[3]
    browser = open_browser()
    try:
        browser.get(f"file://{page}")
        WebDriverWait(browser, SECONDS).until(lambda b: all(
            b.find_elements(By.CSS_SELECTOR, f"#{figure} .main-svg") for figure in FIGURES))
        check_ranks(browser, int(sys.argv[4]))
        click_through(browser, table["trials"], Path(screenshots))
        errors = [entry["message"] for entry in browser.get_log("browser")
                  if entry["level"] == "SEVERE"]
        check(not errors, f"the page reports {errors}")
        fetched = browser.execute_script(
            "return performance.getEntriesByType('resource').map(entry => entry.name)")
        check(not fetched, f"the page fetches {fetched}")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
